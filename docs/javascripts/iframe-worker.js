// Pages opened as files may not start a worker, which the search needs: a hidden frame takes its place there.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      window.addEventListener("message", (event) => {
        if (event.source !== this.frame.contentWindow) return;
        this.dispatchEvent(new MessageEvent("message", { data: event.data }));
        this.onmessage?.(event);
      });
      const setup = `
        var importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done, fail) => {
          const script = document.createElement("script");
          Object.assign(script, { src: url, onload: done, onerror: fail });
          document.body.append(script);
        })), Promise.resolve());
        window.postMessage = (data) => parent.postMessage(data, "*");`;
      const page = this.frame.contentDocument;
      page.open();
      page.write(`<body><script>${setup}</` + `script><script src="${url}"></` + `script></body>`);
      page.close();
      this.ready = new Promise((resolve) => (this.frame.onload = resolve));
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
