"""What a lab boots: Debian's cloud kernel, unmodified, and an initrd with busybox, that kernel's KVM
and disk modules, and ./init. Made once from Debian's packages and kept in a cache."""

import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.environ.get("RV_LAB_CACHE", os.path.join(HERE, "..", "..", ".cache", "lab"))
KERNEL_PACKAGE = "linux-image-cloud-amd64"
DISK_MODULES = ["ata_piix", "sd_mod"]


class LabError(Exception):
    """The lab cannot be made or run here; the text says what to do."""


def need(path, package):
    """The path of a program or file, or LabError naming the Debian package that brings it."""
    found = path if os.path.exists(path) else shutil.which(path)
    if not found:
        raise LabError(f"{path} is missing; install Debian's package {package}")
    return found


def run(*args, **kw):
    p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)
    if p.returncode:
        raise LabError(f"{args[0]} failed: {p.stderr.decode(errors='replace').strip()[-500:]}")
    return p.stdout


class Locked:
    """One process at a time works in the cache."""

    def __enter__(self):
        os.makedirs(CACHE, exist_ok=True)
        self.file = open(os.path.join(CACHE, "lock"), "w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()


def unpack_kernel():
    """The folder with Debian's kernel package unpacked, newest kernel that the package lists know."""
    known = sorted(glob.glob(os.path.join(CACHE, "linux-image-*", "boot", "vmlinuz-*")))
    if known:
        return os.path.dirname(os.path.dirname(known[-1]))
    depends = run("apt-cache", "depends", KERNEL_PACKAGE).decode()
    package = re.search(r"Depends: (linux-image-[0-9]\S*)", depends)
    if not package:
        raise LabError(f"the package lists do not know {KERNEL_PACKAGE}; run apt-get update")
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package[1], cwd=work)
        run("dpkg", "-x", glob.glob(os.path.join(work, "*.deb"))[0], os.path.join(work, "kernel"))
        folder = os.path.join(CACHE, package[1])
        os.rename(os.path.join(work, "kernel"), folder)
    return folder


def modules(kernel, wanted):
    """Paths of the wanted modules and of all that they depend on, in loading order."""
    paths = {os.path.basename(p)[:-3].replace("-", "_"): p
             for p in glob.glob(os.path.join(kernel, "lib/modules/*/**/*.ko"), recursive=True)}
    order = []

    def add(name):
        path = paths.get(name.replace("-", "_"))
        if not path:
            raise LabError(f"{kernel} has no module {name}")
        if path in order:
            return
        with open(path, "rb") as f:
            depends = re.search(rb"\0depends=([^\0]*)\0", f.read())
        for other in depends[1].decode().split(",") if depends else []:
            if other:
                add(other)
        order.append(path)

    for name in wanted:
        add(name)
    return order


def build_initrd(kernel, module, out):
    busybox = need("/bin/busybox", "busybox-static")
    with tempfile.TemporaryDirectory(dir=CACHE) as root:
        for folder in "bin", "dev", "proc", "sys", "tmp", "modules":
            os.mkdir(os.path.join(root, folder))
        shutil.copy(busybox, os.path.join(root, "bin/busybox"))
        shutil.copy(os.path.join(HERE, "init"), os.path.join(root, "init"))
        os.chmod(os.path.join(root, "init"), 0o755)
        with open(os.path.join(root, "modules/order"), "w") as order:
            for path in modules(kernel, [module] + DISK_MODULES):
                shutil.copy(path, os.path.join(root, "modules"))
                order.write(os.path.basename(path) + "\n")
        names = "\n".join(sorted(os.path.relpath(os.path.join(at, n), root)
                                 for at, folders, files in os.walk(root) for n in folders + files))
        need("cpio", "cpio")
        archive = run("cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet", cwd=root,
                      input=names.encode())
    with open(out + ".new", "wb") as f:
        f.write(archive)
    os.rename(out + ".new", out)


def boot_files(module):
    """(kernel, initrd) of a lab whose KVM is that module; made when they are not there yet."""
    with Locked():
        kernel = unpack_kernel()
        # The initrd depends on what it is made by: its name holds a hash of that.
        made_by = hashlib.sha256()
        for path in os.path.join(HERE, "init"), __file__:
            with open(path, "rb") as f:
                made_by.update(f.read())
        name = f"{os.path.basename(kernel)}-{module}-{made_by.hexdigest()[:12]}.cpio"
        initrd = os.path.join(CACHE, name)
        if not os.path.exists(initrd):
            build_initrd(kernel, module, initrd)
        return glob.glob(os.path.join(kernel, "boot/vmlinuz-*"))[0], initrd


def boot_iso(kernel, initrd, append):
    """A bootable CD image of the two, for machines whose firmware knows no direct kernel boot."""
    need("genisoimage", "genisoimage")
    isolinux = need("/usr/lib/ISOLINUX/isolinux.bin", "isolinux")
    ldlinux = need("/usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common")
    name = hashlib.sha256((initrd + append).encode()).hexdigest()[:12]
    iso = os.path.join(CACHE, f"boot-{name}.iso")
    with Locked():
        if os.path.exists(iso):
            return iso
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            os.mkdir(os.path.join(work, "isolinux"))
            for source, to in ((isolinux, "isolinux"), (ldlinux, "isolinux"), (kernel, "vmlinuz"),
                               (initrd, "initrd")):
                shutil.copy(source, os.path.join(work, to))
            with open(os.path.join(work, "isolinux/isolinux.cfg"), "w") as f:
                f.write("default lab\nprompt 0\ntimeout 1\nlabel lab\n  kernel /vmlinuz\n"
                        f"  append initrd=/initrd {append}\n")
            run("genisoimage", "-quiet", "-o", iso + ".new", "-b", "isolinux/isolinux.bin", "-c",
                "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
                work)
        os.rename(iso + ".new", iso)
    return iso
