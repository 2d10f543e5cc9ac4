"""Eight threads compute and write files; the main thread watches over what must hold. Ends when "go.1" appears."""

import os
import threading
import time

stop = threading.Event()
lock = threading.Lock()
total = 0
turns = [0] * 8
failures = []


def line(who, turn, value):
    return f"{who} {turn:10} {value:20}\n"


def work(who):
    global total
    value = who + 1
    try:
        with open(f"file.{who}", "w") as out:
            while not stop.is_set():
                for _ in range(500):
                    value = (value * 6364136223846793005 + 1442695040888963407) % 2**64
                out.write(line(who, turns[who], value))
                out.flush()
                turns[who] += 1
                with lock:
                    total += 1
                time.sleep(0.001)
    except BaseException as error:
        failures.append(error)


def check(who):
    """What the thread wrote, computed once more."""
    value = who + 1
    with open(f"file.{who}") as file:
        for turn in range(turns[who]):
            for _ in range(500):
                value = (value * 6364136223846793005 + 1442695040888963407) % 2**64
            assert file.readline() == line(who, turn, value), (who, turn)


threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
for thread in threads:
    thread.start()
print("ready 1", flush=True)
with open("count", "w") as out:
    while not os.path.exists("go.1"):
        out.seek(0)
        out.write(f"{sum(turns):15}")
        out.flush()
        assert not failures, failures
        time.sleep(0.002)
stop.set()
for thread in threads:
    thread.join()
assert not failures, failures
assert total == sum(turns), (total, turns)
for who in range(8):
    check(who)
print("ok", flush=True)
