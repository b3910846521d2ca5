#!/usr/bin/env bash
# tensorflow 2.21.0: the end of a tf.data iterator that has parallel calls to tune
#
# One would expect: to drop an iterator takes no time, whatever its dataset tunes
# (num_parallel_calls=tf.data.AUTOTUNE, prefetch(tf.data.AUTOTUNE)), as its threads are cancelled.
#
# What it does: often it waits until the tuner, which sleeps ever longer between two looks (10 ms,
# then twice as long each time, at most a minute), next wakes of itself: 0.63, 1.27, 2.55, 5.11,
# 10.23, 20.47, 40.95, 81.91, 141.91 s after the start, and each minute from there. On one CPU about
# half of the iterators do, on two about one in ten; of long ones, which Keras' fit drops at the end
# of training, all that were seen.
#
# Output seen (which ones differs):
#   tuned: ended after 5.12 3.01 5.12 3.01 5.12 3.01 3.01 5.10 s
#   not tuned: ended after 3.01 3.01 3.01 s
#
# Why it hurts: nothing is computed meanwhile. Who calls fit once an epoch, to save or to look
# something up in between, waits up to a minute each time: epochs of a small ResNet took 142.0 s for
# 105 s of work, again and again, to a tenth of a second. options.autotune.enabled = False ends it.
#
# Source: none found.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet --no-compile numpy==2.4.6 tensorflow==2.21.0

export TF_CPP_MIN_LOG_LEVEL=3
venv/bin/python - <<'PYTHON'
import os
import sys
import time

os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import tensorflow as tf

SECONDS = 3.0
NEXT_LOOK = 0.01 * (2**9 - 1)  # after nine sleeps, the first end of one beyond SECONDS


def seconds_of(tuned):
    data = tf.data.Dataset.range(10**9).batch(64)
    data = data.map(lambda x: 2 * x, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.prefetch(tf.data.AUTOTUNE)
    if not tuned:
        options = tf.data.Options()
        options.autotune.enabled = False
        data = data.with_options(options)
    batches = iter(data)
    next(batches)
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        next(batches)
        time.sleep(0.01)
    del batches
    return time.perf_counter() - began


tuned, plain = [seconds_of(True) for _ in range(10)], [seconds_of(False) for _ in range(3)]
for name, found in (("tuned", tuned), ("not tuned", plain)):
    print(f"{name}: ended after", *(f"{seconds:.2f}" for seconds in found), "s")
waited = [seconds for seconds in tuned if abs(seconds - NEXT_LOOK) < 0.3]
sys.exit(0 if waited and max(plain) < SECONDS + 0.5 else "changed: when a tuned iterator ends")
PYTHON
