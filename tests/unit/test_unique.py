"""Names that must be unique."""

import os
import random

from shared.unique import unique_bytes, unique_hex


def test_a_forked_child_does_not_go_on_where_its_parent_stands():
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, unique_bytes(16))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 16) != unique_bytes(16)
    os.close(read), os.close(write)


def test_seeding_pythons_own_generator_repeats_no_name():
    names = set()
    for _ in range(3):
        random.seed(0)
        names.add(unique_hex())
    assert len(names) == 3
    assert {len(name) for name in names} == {16}
