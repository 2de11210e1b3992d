"""Layer groups: the names of a network's parameters, ordered from stem to head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

Groups = tuple[tuple[str, ...], ...]
CONTAINERS = (nn.Sequential, nn.ModuleList)
OPEN = ("trunk", "backbone", "encoder")  # children whose own children are the blocks, whatever their type
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def from_children(body: nn.Module, head: Sequence[str]) -> Groups:
    """Group by block: containers are opened, every other child is one group, a norm joins the layer before it.

    Parameters that belong to no child (class tokens, position embeddings) join the stem; those under the modules
    named by `head` are the last group.
    """
    groups: dict[str, list[str]] = {}
    latest = ""
    for name, _ in body.named_parameters():
        if within(name, head):
            continue
        block, kind = _block(body, name)
        joins = not block or (block not in groups and isinstance(kind, NORMS))
        if not joins:
            latest = block
        groups.setdefault(latest, []).append(name)
    return with_head(body, groups.values(), head)


def with_head(body: nn.Module, groups: Iterable[Sequence[str]], head: Sequence[str]) -> Groups:
    """Take the head's parameters out of any group and put them last; empty groups vanish."""
    names = [name for name, _ in body.named_parameters()]
    kept = [tuple(name for name in group if not within(name, head)) for group in groups]
    return (*(group for group in kept if group), tuple(name for name in names if within(name, head)))


def within(name: str, modules: Sequence[str]) -> bool:
    """Say whether a parameter's name is one of these modules' or lies below one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def last_layer(body: nn.Module) -> str:
    """Return the name of the last module, in order of registration, that holds parameters itself ('' for none)."""
    owners = [name for name, module in body.named_modules() if any(True for _ in module.parameters(recurse=False))]
    return owners[-1] if owners else ""


def _block(body: nn.Module, name: str) -> tuple[str, nn.Module]:
    """Return the module that a parameter is grouped under: the first on its path that is no container."""
    module, path = body, ""
    for part in name.split(".")[:-1]:
        opened = not path or type(module) in CONTAINERS or path.rpartition(".")[2] in OPEN
        if not opened:
            break
        module, path = module.get_submodule(part), f"{path}.{part}" if path else part
    return path, module
