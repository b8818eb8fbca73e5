# Sourced by tools/quickstart and tools/check: installs missing Debian packages, asking nothing.
# need PACKAGE...   installs those that are not there yet
need() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed$' ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "$0: missing packages:$missing; install them as root" >&2; exit 3; }
        as_root=sudo
    fi
    echo "Installing$missing"
    log=$(mktemp)
    if ! { DEBIAN_FRONTEND=noninteractive $as_root apt-get -qq update &&
        DEBIAN_FRONTEND=noninteractive $as_root apt-get -qq install -y --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "$0: installing packages failed" >&2
        exit 3
    fi
    rm -f "$log"
}
BUILD_PACKAGES="gcc libc6-dev cmake make pkg-config liblz4-dev libxxhash-dev libprotobuf-c-dev
    protobuf-c-compiler protobuf-compiler libzydis-dev libjansson-dev libsqlite3-dev zlib1g-dev libdw-dev libunwind-dev"
GUEST_PACKAGES="busybox-static cpio"
LAB_PACKAGES="python3 busybox-static cpio qemu-system-x86 seabios bochs bochs-term bochsbios vgabios isolinux
    syslinux-common genisoimage"
PAGE_PACKAGES="chromium chromium-driver fonts-dejavu-core"
