from __future__ import annotations

import gc
import os
import weakref

import pytest
from support.scripts import run

from permata_auth import _process


def test_a_process_has_one_identity():
    assert _process.identity() == _process.identity()
    assert _process.identity()[1] == os.getpid()


def test_watchers_are_held_weakly():
    class Watcher:
        def after_fork_in_child(self):
            raise NotImplementedError

    watcher = Watcher()
    _process.notify_forks(watcher)
    reference = weakref.ref(watcher)
    del watcher
    gc.collect()
    assert reference() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_watchers_are_told_in_each_child_and_grandchild():
    ended = run("""
        import os
        from permata_auth import _process

        class Watcher:
            seen = 0
            def after_fork_in_child(self):
                self.seen += 1

        watcher = Watcher()
        _process.notify_forks(watcher)
        home = _process.identity()
        if (child := os.fork()):
            assert os.waitpid(child, 0)[1] == 0
            assert (watcher.seen, _process.identity()) == (0, home)
        else:
            first = _process.identity()
            assert watcher.seen == 1 and first != home
            if (grandchild := os.fork()):
                os._exit(os.waitpid(grandchild, 0)[1] >> 8)
            assert watcher.seen == 2 and _process.identity() not in (home, first)
            os._exit(0)
    """)
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_with_the_pid_of_a_dead_ancestor_is_another_process():
    ended = run("""
        import os
        from permata_auth import _process

        home = _process.identity()
        os.getpid = lambda: home[1]
        if (child := os.fork()):
            assert os.waitpid(child, 0)[1] == 0
        else:
            os._exit(_process.identity() == home)
    """)
    assert (ended.status, ended.err) == (0, "")
