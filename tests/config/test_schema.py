"""Every field says what it is."""

from rljax.config.schema import ROOT, STAGE, Field


def fields_in(section, path="config"):
    """Yields (path, field)."""
    for name, entry in section.items():
        if isinstance(entry, Field):
            yield f"{path}.{name}", entry
        else:
            yield from fields_in(entry, f"{path}.{name}")


ALL_FIELDS = dict([*fields_in(ROOT), *fields_in(STAGE, "config.<stage>")])


def test_every_field_has_a_meaning_and_a_type():
    assert len(ALL_FIELDS) > 80
    for path, field in ALL_FIELDS.items():
        assert len(field.doc) > 1, path
        assert field.kind in (int, float, str, bool, tuple, dict), path


def test_defaults_lie_in_their_own_limits():
    for path, field in ALL_FIELDS.items():
        if field.default is None:
            continue
        assert isinstance(field.default, field.kind), path
        assert not field.choices or field.default in field.choices, path
        assert field.minimum is None or field.default >= field.minimum, path
