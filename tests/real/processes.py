"""multiprocessing: a pool, three workers with a shared value under its lock, and shared memory that they fill. Ends when "go.1" appears."""

import multiprocessing
import os
import time
from multiprocessing import shared_memory

context = multiprocessing.get_context("fork")
WORKERS = 3
SLOTS = 4096


def square(number):
    return number * number


def work(who, stop, total, turns, name):
    """Adds to the common value and writes its slots; whatever it sees must be whole."""
    block = shared_memory.SharedMemory(name)
    while not stop.value:
        with total.get_lock(), turns.get_lock():
            assert total.value == sum(turns), (total.value, list(turns))
            total.value += 1
            turns[who] += 1
        slot = (turns[who] % SLOTS) * WORKERS + who
        block.buf[slot] = (block.buf[slot] + 1) % 256
        time.sleep(0.001)
    block.close()


def main():
    block = shared_memory.SharedMemory(create=True, size=SLOTS * WORKERS)
    stop = context.Value("b", 0)
    total = context.Value("q", 0)
    turns = context.Array("q", WORKERS)
    workers = [context.Process(target=work, args=(who, stop, total, turns, block.name)) for who in range(WORKERS)]
    for worker in workers:
        worker.start()
    turn = 0
    with context.Pool(3) as pool, open("count", "w") as out:
        print("ready 1", flush=True)
        while not os.path.exists("go.1"):
            numbers = range(turn, turn + 100)
            assert pool.map(square, numbers, chunksize=7) == [number * number for number in numbers]
            with total.get_lock(), turns.get_lock():
                assert total.value == sum(turns), (total.value, list(turns))
            assert all(worker.is_alive() for worker in workers)
            turn += 1
            out.seek(0)
            out.write(f"{min(turn, total.value):15}")
            out.flush()
    stop.value = 1
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0, worker.exitcode
    expected = bytearray(SLOTS * WORKERS)
    for who in range(WORKERS):
        for done in range(1, turns[who] + 1):
            slot = (done % SLOTS) * WORKERS + who
            expected[slot] = (expected[slot] + 1) % 256
    assert bytes(block.buf[: SLOTS * WORKERS]) == bytes(expected)
    block.close()
    block.unlink()
    print("ok", flush=True)


if __name__ == "__main__":
    try:
        main()
    except BaseException as error:
        print("FAIL", repr(error), flush=True)
        os._exit(1)
