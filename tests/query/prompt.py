"""Types into a program at a terminal of its own and prints what it shows: prompt.py 'STEPS' PROGRAM ARGUMENT...

STEPS is a JSON list of [what to wait for, what to type then]. The terminal answers the question for the cursor's place,
which line editors ask. Ends with the program's exit code.
"""

import json
import os
import pty
import select
import sys
import time

steps = json.loads(sys.argv[1])
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[2], sys.argv[2:])

shown = b""
since = 0
deadline = time.monotonic() + 60
while True:
    ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
    if not ready:
        print("waited in vain for %r" % (steps[:1],), file=sys.stderr)
        os.kill(child, 9)
        break
    try:
        new = os.read(terminal, 65536)
    except OSError:
        break
    if not new:
        break
    shown += new
    for _ in range(new.count(b"\x1b[6n")):
        os.write(terminal, b"\x1b[1;1R")
    while steps and steps[0][0].encode() in shown[since:]:
        since = shown.index(steps[0][0].encode(), since) + len(steps[0][0].encode())
        os.write(terminal, steps.pop(0)[1].encode())

sys.stdout.buffer.write(shown)
sys.stdout.flush()
if steps:
    sys.exit("it ended before it showed %r" % (steps[0][0],))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
