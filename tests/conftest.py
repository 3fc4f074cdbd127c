"""What tests of several folders need."""

import multiprocessing

import pytest


@pytest.fixture
def in_forked_child():
    """Call a function in a forked child; what it returns there. A child that hangs fails the test, not the run."""

    def call(function):
        receiver, sender = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=lambda: sender.send(function()))
        child.start()
        try:
            assert receiver.poll(60), "the child hangs"
            return receiver.recv()
        finally:
            child.kill()
            child.join()

    return call
