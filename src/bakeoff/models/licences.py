"""Licences of weights: which allow any use, and which do not.

A help to keep out what certainly does not fit; no legal advice, and nothing about the images that weights were trained
on, whose terms the report's pretraining column points to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Kind = Literal["permissive", "restricted", "unknown"]
KINDS: tuple[Kind, ...] = ("permissive", "restricted", "unknown")

NC, RESEARCH, OWN, COPYLEFT = "non-commercial", "research only", "terms of its own", "copyleft"
PERMISSIVE: Mapping[str, str] = {  # identifier (SPDX, as on Hugging Face) -> its text
    "apache-2.0": "https://opensource.org/license/apache-2-0",
    "mit": "https://opensource.org/license/mit",
    "bsd-2-clause": "https://opensource.org/license/bsd-2-clause",
    "bsd-3-clause": "https://opensource.org/license/bsd-3-clause",
    "isc": "https://opensource.org/license/isc-license-txt",
    "unlicense": "https://opensource.org/license/unlicense",
    "cc0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "cc-by-4.0": "https://creativecommons.org/licenses/by/4.0/",
}
RESTRICTED: Mapping[str, tuple[str, str]] = {  # identifier -> why, and its text or the project that it belongs to
    "cc-by-nc-4.0": (NC, "https://creativecommons.org/licenses/by-nc/4.0/"),
    "cc-by-nc-sa-4.0": (NC, "https://creativecommons.org/licenses/by-nc-sa/4.0/"),
    "cc-by-nc-nd-4.0": (NC, "https://creativecommons.org/licenses/by-nc-nd/4.0/"),
    "seer-license": (NC, "https://github.com/facebookresearch/vissl/tree/main/projects/SEER"),
    "fair-noncommercial-research-license": (RESEARCH, "https://huggingface.co/facebook"),
    "apple-amlr": (RESEARCH, "https://huggingface.co/apple/AIM/tree/main"),
    "agpl-3.0": (COPYLEFT, "https://opensource.org/license/agpl-v3"),
    "gpl-3.0": (COPYLEFT, "https://opensource.org/license/gpl-3-0"),
    "gpl-2.0": (COPYLEFT, "https://opensource.org/license/gpl-2-0"),
    "apple-ascl": (OWN, "https://github.com/apple/ml-aim"),
    "cvnets-license": (OWN, "https://github.com/apple/ml-cvnets/blob/main/LICENSE"),
    "fastvit-license": (OWN, "https://github.com/apple/ml-fastvit/tree/main"),
    "mobileone-license": (OWN, "https://github.com/apple/ml-mobileone"),
    "dinov3-license": (OWN, "https://ai.meta.com/resources/models-and-libraries/dinov3-license/"),
    "sapiens2-license": (OWN, "https://github.com/facebookresearch/sapiens2/blob/main/LICENSE.md"),
    "gemma": (OWN, "https://ai.google.dev/gemma/terms"),
    "nvidia-open-model-license": (
        OWN,
        "https://www.nvidia.com/en-us/agreements/enterprise-software/nvidia-open-model-license",
    ),
    "qwen-community-1.0": (OWN, "https://huggingface.co/Qwen"),
}
ALIASES: Mapping[str, str] = {  # other ways to write them -> identifier
    "https://github.com/facebookresearch/swag/blob/main/license": "cc-by-nc-4.0",  # torchvision's README says so
    "apache": "apache-2.0",
    "apache-license-2.0": "apache-2.0",
    "apache-license,-version-2.0": "apache-2.0",
    "apache2": "apache-2.0",
    "bsd": "bsd-3-clause",
    "bsd-3": "bsd-3-clause",
    "mit-license": "mit",
    "cc0": "cc0-1.0",
}


def identifier(licence: str | None) -> str | None:
    """Return a licence as it is looked up: its usual identifier where it is known, else as it was written.

    >>> identifier("Apache 2.0"), identifier("MIT License"), identifier("ask me"), identifier("unknown")
    ('apache-2.0', 'mit', 'ask me', None)
    """
    written = " ".join((licence or "").split())
    if written.casefold() in ("", "unknown", "other", "none"):
        return None
    short = written.casefold().replace(" ", "-")
    short = ALIASES.get(short, short)
    return short if short in PERMISSIVE or short in RESTRICTED else written


def kind(licence: str | None) -> Kind:
    """Say whether a licence allows any use (permissive), forbids or attaches terms to some, or is not known."""
    name = identifier(licence)
    return "permissive" if name in PERMISSIVE else "restricted" if name in RESTRICTED else "unknown"


def worded(licence: str | None) -> str:
    """Say in a few words what is known of a licence.

    >>> worded("cc-by-nc-4.0"), worded("mit"), worded(None), worded("ask me")
    ('cc-by-nc-4.0 (non-commercial)', 'mit', 'no stated licence', 'ask me (a licence that is not known here)')
    """
    name = identifier(licence)
    if name is None:
        return "no stated licence"
    if name in RESTRICTED:
        return f"{name} ({RESTRICTED[name][0]})"
    return name if name in PERMISSIVE else f"{name} (a licence that is not known here)"
