// The camera: shown where one is allowed, and a picture of what it sees.
import { complain, find } from "./elements.js";

export function camera(take) {
  const video = find("video"), finder = find("finder");
  const stop = () => {
    video.srcObject?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    finder.hidden = true;
    find("camera").disabled = false;
  };
  find("camera").disabled = !navigator.mediaDevices?.getUserMedia;
  find("camera").addEventListener("click", async () => {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
      finder.hidden = false;
      find("camera").disabled = true;
      find("shoot").focus();
    } catch {
      complain(find("refused"), new Error("the camera cannot be used: there is none, or the browser was not allowed to"));
    }
  });
  find("shoot").addEventListener("click", () => {
    if (!video.videoWidth) return;
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    stop();
    canvas.toBlob((blob) => take(new File([blob], "camera.png", { type: "image/png" })), "image/png");
  });
  find("stop").addEventListener("click", () => { stop(); find("camera").focus(); });
  return stop;
}
