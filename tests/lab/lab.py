#!/usr/bin/env python3
"""Runs a command under a stock Debian kernel with mainline KVM, on any x86-64 machine: the processor
with its virtualization extension is emulated in software, and needs no /dev/kvm here.

  amd    kvm_amd with nested paging and nested SVM, on QEMU's TCG; boots in seconds
  intel  kvm_intel with EPT and nested VMX, on Bochs; boots in a minute or two

Files go in and come out on two disks, as tar archives. Programs bring their shared libraries."""

import argparse
import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

from image import LabError, boot_files, boot_iso, need

APPEND = "console=ttyS0,115200 panic=-1 quiet"
LOST = 3  # exit status: the lab did not come to an end of its own
TIMEOUT = 124
SECTORS = 16 * 63 * 512  # a cylinder: disks are made of whole ones


# ---- files in and out ----

def libraries(path):
    """The shared libraries and the loader of a program, as absolute paths; none when it is static."""
    with open(path, "rb") as f:
        if f.read(4) != b"\x7fELF":
            return set()
    p = subprocess.run(["ldd", path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return set(re.findall(r"(/\S+) \(0x", p.stdout.decode())) if p.returncode == 0 else set()


def pack(tar, source, name, seen):
    """Adds a file or folder under a name, and the libraries of the programs in it."""
    if not os.path.exists(source):
        raise LabError(f"{source}: no such file")
    files = [(source, name)]
    if os.path.isdir(source):
        files = [(os.path.join(at, f), os.path.join(name, os.path.relpath(os.path.join(at, f), source)))
                 for at, _, names in os.walk(source) for f in names]
    for path, inside in files:
        info = tar.gettarinfo(os.path.realpath(path), inside.lstrip("/"))
        if not info.isreg():
            continue
        info.uid = info.gid = 0
        with open(path, "rb") as f:
            tar.addfile(info, f)
        if os.access(path, os.X_OK) or ".so" in os.path.basename(path):
            for library in libraries(path) - seen:
                seen.add(library)
                pack(tar, library, library, seen)


def write_input(path, command, inputs):
    seen = set()
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        text = command.encode() + b"\n"
        info = tarfile.TarInfo("lab/command")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
        for source, name in inputs:
            pack(tar, source, name, seen)
    os.truncate(path, -(-os.path.getsize(path) // SECTORS) * SECTORS)


def read_output(path, folder):
    """The status of the command; its files go to a folder when there is one. None without an answer."""
    try:
        with tarfile.open(path, "r:") as tar:
            status = int(tar.extractfile("lab/status").read())
            for member in tar.getmembers():
                inside = os.path.relpath(member.name, "out")
                if folder and member.isreg() and not inside.startswith(".."):
                    to = os.path.join(folder, inside)
                    os.makedirs(os.path.dirname(to), exist_ok=True)
                    with tar.extractfile(member) as source, open(to, "wb") as f:
                        while block := source.read(1 << 20):
                            f.write(block)
            return status
    except (tarfile.ReadError, KeyError, ValueError):
        return None


# ---- the machines ----

def amd_machine(work, disks, memory, cpu):
    kernel, initrd = boot_files("kvm-amd")
    args = [need("qemu-system-x86_64", "qemu-system-x86"), "-accel", "tcg", "-cpu",
            cpu or "max,+svm,+npt", "-m", str(memory or 2048), "-nodefaults", "-display", "none",
            "-no-reboot", "-monitor", "none", "-serial", f"file:{work}/console", "-kernel", kernel,
            "-initrd", initrd, "-append", APPEND]
    for n, disk in enumerate(disks):
        args += ["-drive", f"file={disk},format=raw,if=ide,index={n},cache=unsafe"]
    return args


def intel_machine(work, disks, memory, cpu):
    kernel, initrd = boot_files("kvm-intel")
    bios = need("/usr/share/bochs/BIOS-bochs-latest", "bochsbios")
    vga = need("/usr/share/bochs/VGABIOS-lgpl-latest", "vgabios")
    need("/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so", "bochs-term")
    # Its clock follows its instructions: nothing can be calibrated against anything, nor need be.
    iso = boot_iso(kernel, initrd, APPEND + " tsc=reliable")
    with open(f"{work}/bochsrc", "w") as f:
        f.write(f"""config_interface: textconfig
display_library: term
megs: {memory or 1024}
cpu: model={cpu or "corei7_skylake_x"}, count=1, ips=50000000
romimage: file={bios}
vgaromimage: file={vga}
ata0-master: type=disk, mode=flat, path={disks[0]}, cylinders=0
ata0-slave: type=disk, mode=flat, path={disks[1]}, cylinders=0
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata1-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={work}/console
log: {work}/bochs.log
clock: sync=none
panic: action=fatal
""")
    with open(f"{work}/start", "w") as f:
        f.write("c\n")  # Debian's Bochs starts in its debugger
    return [need("bochs", "bochs"), "-q", "-f", f"{work}/bochsrc", "-rc", f"{work}/start"]


MACHINES = {"amd": amd_machine, "intel": intel_machine}


def watch(process, console, show, deadline):
    """Copies the growing console to show() until the process ends; False when time was up first."""
    at, ended = 0, False
    while True:
        ended = process.poll() is not None
        if os.path.exists(console):
            with open(console, "rb") as f:
                f.seek(at)
                new = f.read()
            at += len(new)
            if new:
                show(new)
        if ended:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)


def end(process):
    """Ends the machine, with all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def drain(master, errors):
    """Reads what the machine shows on its terminals, which nobody looks at, until they are gone: the
    one it was given, and the one that Bochs makes for its screen and names in its messages. Bochs
    stands still when what it draws there is not read."""
    screen = None
    while True:
        if not screen:
            with open(errors, "rb") as f:
                named = re.search(rb'connected to screen "([^"]+)"', f.read())
            screen = named and os.open(named[1], os.O_RDONLY | os.O_NOCTTY)
        terminals = [master, screen] if screen else [master]
        for terminal in select.select(terminals, [], [], 0.2)[0]:
            if not os.read(terminal, 65536):
                return


def run(machine, command, inputs=(), out=None, limit=600, show=None, memory=None, cpu=None,
        out_size=2 << 30):
    """Runs a shell command in a lab. inputs: (file or folder here, path inside); out: a folder here for
    what the command leaves in /out. show(bytes) is given the console as it grows; memory in MiB;
    limit in seconds. Returns the exit status of the command, TIMEOUT, or LOST when the lab ended
    without one. Raises LabError when it cannot be started."""
    with tempfile.TemporaryDirectory(prefix="retro-lab-") as work:
        disks = [os.path.join(work, "in"), os.path.join(work, "out")]
        write_input(disks[0], command, inputs)
        with open(disks[1], "wb") as f:
            f.truncate(out_size // SECTORS * SECTORS)
        args = MACHINES[machine](work, disks, memory, cpu)
        # Bochs wants a terminal.
        master, slave = pty.openpty()
        with open(f"{work}/errors", "wb") as errors:
            process = subprocess.Popen(args, stdin=slave, stdout=slave, stderr=errors,
                                       env={**os.environ, "TERM": "xterm"}, start_new_session=True)
        os.close(slave)
        reader = os.fork()
        if reader == 0:
            try:
                drain(master, f"{work}/errors")
            finally:
                os._exit(0)
        try:
            finished = watch(process, f"{work}/console", show or (lambda _: None),
                             time.monotonic() + limit)
        finally:
            end(process)
            os.close(master)
            os.kill(reader, signal.SIGKILL)
            os.waitpid(reader, 0)
        if not finished:
            return TIMEOUT
        status = read_output(disks[1], out)
        if status is None:
            with open(f"{work}/errors", errors="replace") as f:
                sys.stderr.write(f.read()[-2000:])
            return LOST
        return status


def main():
    # What ends this ends the machine, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    parser = argparse.ArgumentParser(
        usage="lab.py amd|intel [OPTION]... COMMAND", description=__doc__.split("\n\n")[0],
        epilog="Exit status: that of the command; 124 when the time was up; 3 when the lab could not "
               "be made, or ended before the command did. Kernel and initrd are kept in .cache/lab "
               "(RV_LAB_CACHE).")
    parser.add_argument("machine", choices=MACHINES)
    parser.add_argument("--in", dest="inputs", action="append", default=[], metavar="FILE[:PATH]",
                        help="a file or folder that the command finds at PATH (default: /NAME)")
    parser.add_argument("--out", metavar="FOLDER", help="where to put what the command left in /out")
    parser.add_argument("--limit", type=float, default=600, metavar="SECONDS")
    parser.add_argument("--memory", type=int, metavar="MIB")
    parser.add_argument("--cpu", metavar="MODEL", help="as QEMU or Bochs names it")
    parser.add_argument("command")
    a = parser.parse_args()
    inputs = []
    for text in a.inputs:
        source, _, name = text.partition(":")
        inputs.append((source, name or "/" + os.path.basename(os.path.normpath(source))))

    def show(data):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    try:
        sys.exit(run(a.machine, a.command, inputs, a.out, a.limit, show, a.memory, a.cpu))
    except LabError as e:
        print(f"lab: {e}", file=sys.stderr)
        sys.exit(LOST)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
