# Convenience commands of `retro gdb`, loaded into gdb automatically: the monitor commands of the server
# under names that gdb completes, with expressions for addresses, and with gdb told when they moved.
import gdb

WATCHPOINTS = (gdb.BP_WATCHPOINT, gdb.BP_HARDWARE_WATCHPOINT, gdb.BP_READ_WATCHPOINT,
               gdb.BP_ACCESS_WATCHPOINT)


def monitor(text):
    gdb.execute("monitor " + text)


def moved():
    """gdb cannot know that a monitor command changed registers and memory."""
    for cache in ("register-cache", "dcache"):
        gdb.execute("maintenance flush " + cache, to_string=True)
    # Nor that what its watchpoints compare with is another value now: enabling looks anew.
    for b in gdb.breakpoints():
        if b.type in WATCHPOINTS and b.enabled:
            b.enabled = False
            b.enabled = True
    try:
        gdb.execute("frame 0")
    except gdb.error as e:
        print(e)


class Retro(gdb.Command):
    """Time travel in a Retrovisor recording: retro-when, retro-seek, retro-bookmark and others."""

    def __init__(self):
        super().__init__("retro", gdb.COMMAND_RUNNING, prefix=True)

    def invoke(self, text, from_tty):
        monitor("help")


def command(name, help_text, moves=False, address=False):
    """Makes retro-NAME out of monitor NAME."""

    class Command(gdb.Command):
        __doc__ = help_text

        def __init__(self):
            super().__init__("retro-" + name, gdb.COMMAND_RUNNING)

        def invoke(self, text, from_tty):
            if address:
                text = address_of(text)
            monitor((name + " " + text).strip())
            if moves:
                moved()

    Command()


def address_of(text):
    """'EXPRESSION [, LENGTH]' becomes an address and a length: those of what the expression names, or
    the address that it is."""
    expression, _, length = text.partition(",")
    if not expression.strip():
        raise gdb.GdbError("usage: EXPRESSION [, LENGTH]")
    value = gdb.parse_and_eval(expression)
    size = 8
    if value.address is not None:
        size = value.type.sizeof
        value = value.address
    elif value.type.strip_typedefs().code == gdb.TYPE_CODE_PTR:
        target = value.type.strip_typedefs().target().strip_typedefs()
        if target.code not in (gdb.TYPE_CODE_VOID, gdb.TYPE_CODE_FUNC):
            size = target.sizeof
    if length.strip():
        size = int(gdb.parse_and_eval(length))
    return "0x%x %d" % (int(value) & 0xffffffffffffffff, size)


Retro()
command("when", "Print the position in the recording, and guest time.")
command("seek", "Go to a position: POSITION, +N, -N, event N, start, end, or a bookmark.", moves=True)
command("bookmark", "Give this position a name: retro-bookmark [NAME].")
command("bookmarks", "List the bookmarks.")
command("checkpoints", "List the checkpoints, and what they take.")
command("events", "Show the next events of the trace: retro-events [COUNT].")
command("console", "Print what the guest had printed by now.")
command("last-write", "Say who wrote to EXPRESSION [, LENGTH] last.", address=True)
command("next-write", "Say who writes to EXPRESSION [, LENGTH] next.", address=True)
command("branch", "Try changes out: retro-branch, retro-branch end.", moves=True)
command("physical", "Take addresses as physical ones: on or off.", moves=True)
