"""Users' own functions in files: a file holds a name, and who loads it gives the function."""

from __future__ import annotations

from numbanet import functions, validate

KINDS = {"activation": functions.activation, "loss": functions.loss}
FIELDS = {"function", "name"}
MOST_NAMES = 5  # in a sentence


def names_of(model):
    """What a JSON encoder writes for the functions of a model; ValueError if two of them share a name."""
    known = {}
    for own in functions.used([*model.graph.layers, model]):
        if known.setdefault((own.kind, own.name), own) != own:
            raise ValueError(
                f"two {own.kind} functions of the model are called {own.name!r} and could not be told apart in a file; "
                f"give each a name: nn.{own.kind}(f, name=...)"
            )
    return lambda own: {"function": own.kind, "name": own.name}


class Custom:
    """Functions by name, as nn.load is given them, for a JSON decoder to put in place of their names."""

    def __init__(self, given):
        given = {} if given is None else given
        if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
            raise TypeError(f"custom_objects must be a dict from names to functions, not {repr(given)[:60]}")
        for name, thing in given.items():
            if not functions.given(thing):
                raise TypeError(f"custom_objects[{name!r}] must be a function, not {repr(thing)[:60]}")
        self._given, self._made, self._missing, self._problem = given, {}, {}, None

    def restore(self, value):
        """A JSON object, or the function that it names."""
        if set(value) != FIELDS:
            return value
        try:
            return self._named(value)
        except (ValueError, TypeError) as problem:  # the decoder's own errors are others
            self._problem = self._problem or problem
            return value

    def _named(self, value):
        kind, name = value["function"], validate.text("the name of a function", value["name"])
        if not isinstance(kind, str) or kind not in KINDS:
            raise ValueError(f"it names a function of the kind {repr(kind)[:30]}; known: {', '.join(KINDS)}")
        if name not in self._given:
            self._missing[name] = kind
            return value
        if (kind, name) not in self._made:
            given = self._given[name]
            named = {} if isinstance(given, functions.OwnFunction) else {"name": name}
            self._made[kind, name] = KINDS[kind](given, **named)
        return self._made[kind, name]

    def need_all(self):
        """ValueError if functions were named that are not there, or not what they should be."""
        if self._problem:
            raise self._problem
        if self._missing:
            names = list(self._missing)[:MOST_NAMES]
            more = f" and {len(self._missing) - len(names)} more" if len(self._missing) > len(names) else ""
            wanted = ", ".join(f"{name!r}: nn.{self._missing[name]}(...)" for name in names)
            raise ValueError(
                f"it uses functions of your own, of which a file holds only the names; give them{more}: "
                f"nn.load(path, custom_objects={{{wanted}}})"
            )
