"""The arguments of a recipe, a config that reads words: `FILE.py:model=FOLDER,train=FILE,lora`."""

from collections.abc import Mapping, Sequence


def read_arguments(
    arg: str, recipe: str, needed: Sequence[str], options: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Arguments by name.

    Args:
        arg: "name=value,...,flag", what stands behind the colon of --config.
        recipe: the config's file, for errors.
        needed: names that must have a value.
        options: name -> default of those that may be left out. The default of a flag, a word
            without a value, is "".

    Returns:
        name -> value; a flag that is given has its own name as value.

    Raises:
        ValueError: for one that is missing or not known, one without a value, a flag with one.
    """
    options = dict(options or {})
    usage = f"--config={recipe}:" + ",".join(f"{name}=..." for name in needed)
    usage += "".join(f"[,{name}{'=...' if value else ''}]" for name, value in options.items())
    given: dict[str, str] = {}
    for word in filter(None, arg.split(",")):
        name, equals, value = word.partition("=")
        if name not in needed and name not in options:
            raise ValueError(f"Unknown argument {name!r}; write {usage}.")
        flag = options.get(name) == ""
        if flag == bool(equals) or not (flag or value):
            form = "no value" if flag else "a value"
            raise ValueError(f"{name} takes {form}, got {word!r}; write {usage}.")
        given[name] = value or name
    if missing := [name for name in needed if name not in given]:
        raise ValueError(f"{', '.join(missing)} not given; write {usage}.")
    return options | given
