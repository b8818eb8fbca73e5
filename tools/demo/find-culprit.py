# The time-travel demonstration: finds out in gdb, backwards from the crash, who destroyed the pointer
# that the ledger crashed on. Run by tools/quickstart; docs/tutorial.md walks through it. Each command is
# printed as a user would type it.
import re

import gdb

gdb.execute("set pagination off")
gdb.execute("set width 0")


def type_in(command):
    print("(gdb) " + command, flush=True)
    if command.startswith("monitor"):
        print(gdb.execute(command, to_string=True), end="", flush=True)
    else:
        gdb.execute(command)


def position():
    text = gdb.execute("monitor when", to_string=True)
    return int(re.search(r"position ([0-9,]+)", text).group(1).replace(",", ""))


def readable(pointer):
    try:
        pointer.string()
        return True
    except (gdb.MemoryError, UnicodeDecodeError):
        return False


print("# The guest has crashed and powered off; this is the end of the recording.")
type_in("monitor when")
print("# Back to where the crash began: the report that the ledger prints last.")
type_in("break report")
type_in("reverse-continue")
crash = position()
accounts = gdb.parse_and_eval("accounts")
bad = [i for i in range(8) if not readable(accounts[i]["owner"])]
if len(bad) != 1:
    raise gdb.GdbError("expected one destroyed pointer, found %r" % bad)
type_in("print accounts[%d]" % bad[0])
print("# Its owner is no address. Who wrote it last? Watch it, and go back in time.")
type_in("delete")
type_in("watch -location accounts[%d].owner" % bad[0])
for _ in range(8):  # a byte at a time: back to the first that hit it
    type_in("reverse-continue")
    if readable(gdb.parse_and_eval("accounts")[bad[0]]["owner"]):
        break
type_in("backtrace")
culprit = position()
frame = gdb.selected_frame()
if frame.name() != "note":
    raise gdb.GdbError("expected note, found %s" % frame.name())
type_in("frame 1")
type_in("print purpose")
type_in("print sizeof(accounts[0].memo)")
type_in("print accounts[%d].owner" % bad[0])
print("# Found: note() copied %s into a field of 16 bytes, %s instructions before the crash."
      % (gdb.parse_and_eval("purpose").string().__repr__(), format(crash - culprit, ",")))
