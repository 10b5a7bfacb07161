"""YAML that nobody vouches for."""

from __future__ import annotations

from typing import Any

import yaml


class Strict(yaml.SafeLoader):
    """YAML's safe loader without aliases, which grow without bound, and doubled keys, of which one is lost."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(
                f"line {self.peek_event().start_mark.line + 1}: write the value out instead of an alias (*)"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {key.value!r} stands twice")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


class Words(Strict):
    """The same, in which every value is the text that stands there: a class may be called no, 1_0 or 2024-01-01."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        return super().resolve(kind, value, (False, True) if kind is yaml.ScalarNode else implicit)
