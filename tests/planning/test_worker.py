"""What the compiler says of programs that do not fit."""

from rljax.planning.worker import refused_bytes

GIB = 2**30


def test_the_size_of_a_refused_program_is_read():
    said = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm."
    assert refused_bytes(said, GIB) == 20.5 * GIB
    # Where only temporaries are told, the arguments are added.
    said = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
        "required for HLO temporaries (44.39G) exceeds available HBM (15.75G)."
    )
    assert refused_bytes(said, 3 * GIB) == (44.39 + 3) * GIB
    assert refused_bytes("INTERNAL: something else", GIB) is None
