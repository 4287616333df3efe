#!/usr/bin/env bash
#
# Prints the path of a rustc that builds guests for wasm32-wasip2, after building one if there is none.
#
# Why: most developers run `rustup target add wasm32-wasip2` once and never need the rest. A container or a CI runner
# that reaches only package registries cannot, so there the target is built from Debian's own signed packages.
#
# Never: it does not try a download to see whether it fails, and does not touch the host's toolchain. What it builds
# lives in a cache directory, and appears there whole or not at all.
#
# make, CI -> here -> guest-toolchain/debian.sh -> apt-get, the active cargo, Debian's rustc

set -euo pipefail

readonly TARGET=wasm32-wasip2
readonly LOCK_SECONDS=1800 # Ten cold builds: whoever still waits then waits for something that hangs.

usage() {
    cat <<'EOF'
Usage: RUSTC="$(scripts/guest-toolchain.sh)" cargo build --release --target wasm32-wasip2

Prints on stdout one line, the absolute path of a rustc that builds wasm32-wasip2. Progress goes to stderr.
It takes the first of these routes that applies:

  1. The active toolchain has the target: its own rustc.
  2. On Debian, as root: a sysroot built from Debian's packages rustc-web, rust-web-src, wasi-libc and lld, and from the
     crate wasm-component-ld. The first run installs about 140 MB of packages and takes a minute or two; later runs
     find the result in the cache.
  3. Otherwise nothing is changed: the commands that would help are printed, and the exit status is 1.

Variables:
  GUEST_TOOLCHAIN=rustup   where route 1 does not apply, run `rustup target add wasm32-wasip2` (this downloads)
  GUEST_TOOLCHAIN=debian   where route 1 does not apply, take route 2, even without root if the packages are installed
  GUEST_TOOLCHAIN_CACHE    where the sysroot is kept; by default bulkhead/ in $XDG_CACHE_HOME, which is ~/.cache
EOF
}

main() {
    case "${1:-}" in
        '') ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
    # Only answer() writes to the real stdout, which a makefile captures; apt-get and cargo cannot reach it by accident.
    exec 3>&1 1>&2

    cache=${GUEST_TOOLCHAIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead}
    [[ $cache == /* ]] || cache=$PWD/$cache
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
    cd "$here/.." # The toolchain that counts is the one that is active in this repository.

    choice=${GUEST_TOOLCHAIN:-}
    [[ $choice =~ ^(rustup|debian)?$ ]] || die "GUEST_TOOLCHAIN is '$choice': it must be rustup, debian or unset"

    unset MAKEFLAGS MFLAGS CARGO_MAKEFLAGS # make's jobserver is not open to us, and rustc and cargo would complain.
    # With automatic installation off, asking rustup a question cannot make it download a toolchain.
    active=$(RUSTUP_AUTO_INSTALL=0 rustc --print sysroot) || die "no Rust toolchain is active here; install one first"
    ! has_target || answer "$active/bin/rustc"

    sysroot='' # find_built_sysroot sets it.
    # shellcheck source=/dev/null
    source "$here/guest-toolchain/debian.sh"
    if [[ $choice == rustup ]]; then add_target_with_rustup; else use_debian; fi
}

has_target() { compgen -G "$active/lib/rustlib/$TARGET/lib/libstd[-.]*rlib" >/dev/null; }

add_target_with_rustup() {
    say "GUEST_TOOLCHAIN=rustup: running rustup target add $TARGET"
    rustup target add "$TARGET" || die "rustup could not add $TARGET to $active"
    has_target || die "rustup added $TARGET, but not to $active: is the rustc on PATH the one that rustup manages?"
    answer "$active/bin/rustc"
}

use_debian() {
    ! find_built_sysroot || answer "$sysroot/bin/rustc"
    [[ $choice == debian ]] || is_debian_root || advise
    local tool
    for tool in apt-get dpkg-query flock; do
        command -v "$tool" >/dev/null || die "building on Debian needs $tool, which is not here"
    done
    [[ -x $active/bin/cargo ]] || die "building on Debian needs cargo in the active toolchain, $active"
    lock_cache
    find_built_sysroot || [[ $choice == debian ]] || packages_available || advise
    find_built_sysroot || install_packages
    find_built_sysroot || build_sysroot
    answer "$sysroot/bin/rustc"
}

lock_cache() {
    mkdir -p -m 700 "$cache"
    # Every process of a build inherits descriptor 9, so a killed run's cargo keeps the next run out until it has ended.
    exec 9>>"$cache/guest-sysroot.lock"
    if ! flock -n 9; then
        say "another run is building the sysroot; waiting for it"
        flock -w "$LOCK_SECONDS" 9 || die "still locked after $LOCK_SECONDS s: $cache/guest-sysroot.lock"
    fi
    rm -rf "$cache"/.guest-build.* # Left by a run that was killed: we hold the lock, so nobody is building there.
}

advise() {
    say "no installed toolchain builds $TARGET. Either add it to the active one ($active):

    rustup target add $TARGET

or, on Debian, let it be built from signed packages:

    sudo apt-get install --no-install-recommends ${PACKAGES[*]}
    sudo apt-get install --no-install-recommends lld-N    # N is the LLVM version that /usr/bin/rustc -vV then names
    GUEST_TOOLCHAIN=debian $here/guest-toolchain.sh
"
    exit 1
}

say() { printf 'guest-toolchain: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

answer() {
    printf '%s\n' "$1" >&3
    exit 0
}

main "$@"
