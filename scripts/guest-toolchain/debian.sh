# shellcheck shell=bash
#
# Builds a sysroot for wasm32-wasip2 from Debian packages. Sourced by guest-toolchain.sh, which decides and locks.
#
# Invariants: the files of this directory and the compiler decide what is built, and their hash names it. A sysroot is
# built under another name and moved into place only after it has linked a component.

set -euo pipefail
: "${TARGET:?}" "${cache:?}" "${here:?}" "${active:?}" # Set by guest-toolchain.sh; active is the host's sysroot.

readonly LINKER_VERSION=0.5.31 # Of wasm-component-ld. It carries the WASI adapters, so it is pinned like a dependency.
readonly KEPT_SYSROOTS=3       # This branch, another one and a bisect; each takes about 90 MB.
readonly PACKAGES=(rustc-web rust-web-src wasi-libc)
readonly LEAST=1.96 # Of rustc-web: older sources have no profile to build std with, and the recipe was never tried on them.

# --- What is there --------------------------------------------------------------------------------------------------

# Sets what Debian's compiler says of itself and where its sysroot belongs; true when that sysroot can be used. It is
# checked for what can vanish after the build: the cache itself, and the linker, which stays in Debian's package.
find_built_sysroot() {
    [[ -x /usr/bin/rustc ]] || return 1
    local facts key
    facts=$(/usr/bin/rustc -vV) || return 1
    host=$(sed -n 's/^host: //p' <<<"$facts")
    llvm=$(sed -n 's/^LLVM version: \([0-9]*\).*/\1/p' <<<"$facts")
    key=$(cat - "$here"/guest-toolchain/* <<<"$facts" | sha256sum)
    sysroot=$cache/guest-sysroot-${key:0:16}
    # -O: a compiler that somebody else put there is not run.
    [[ -O $sysroot && -O $cache && -x $sysroot/bin/rustc && -x $sysroot/lib/rustlib/$host/bin/wasm-ld ]]
}

is_debian_root() { ((EUID == 0)) && grep -qsx 'ID=debian' /etc/os-release && command -v apt-get >/dev/null; }

# A fresh container has no package lists, and old lists may not name it yet, or only an old version; only then are new ones
# worth fetching.
packages_available() {
    ! is_candidate rust-web-src || return 0
    say "fetching Debian's package lists"
    apt-get -q update >"$cache/guest-apt.log" 2>&1 || say "apt-get update failed, see $cache/guest-apt.log"
    is_candidate rust-web-src
}

is_candidate() {
    local candidate
    candidate=$(LC_ALL=C apt-cache policy "$1" | sed -n 's/^ *Candidate: \([^(].*\)/\1/p')
    [[ -n $candidate ]] && dpkg --compare-versions "$candidate" ge "$LEAST"
}

is_recent() { dpkg --compare-versions "$(dpkg-query -W -f='${Version}' "$1" 2>/dev/null)" ge "$LEAST"; }

is_installed() {
    local package
    for package; do [[ $(version_of "$package") == 'ii '* ]] || return 1; done
}

version_of() { dpkg-query -W -f='${db:Status-Abbrev}${Version}' "$1" 2>/dev/null || true; }

# --- Packages -------------------------------------------------------------------------------------------------------

install_packages() {
    # Sources of another version than the compiler would not build; naming all of them brings all to the same version.
    if ! is_installed "${PACKAGES[@]}" || ! is_recent rustc-web ||
        [[ $(version_of rustc-web) != "$(version_of rust-web-src)" ]]; then
        apt_install "${PACKAGES[@]}"
    fi
    # The linker must be of the LLVM that the compiler was built with, which the compiler tells once it is installed.
    find_built_sysroot || [[ -n ${llvm:-} ]] || die "/usr/bin/rustc does not say which LLVM it was built with"
    is_installed "lld-$llvm" || apt_install "lld-$llvm"
}

apt_install() {
    ((EUID == 0)) || die "packages are missing; run: sudo apt-get install --no-install-recommends $*"
    say "installing $*"
    # --no-remove: whether to give up a package that is in the way, such as another rustc, is not ours to decide.
    local install=(apt-get -q -y --no-install-recommends --no-remove -o DPkg::Lock::Timeout=600 install "$@")
    export DEBIAN_FRONTEND=noninteractive
    # A mirror forgets old versions, so lists that are too old show as a failed install: renew them and try once more.
    {
        "${install[@]}" || { apt-get -q update && "${install[@]}"; }
    } >"$cache/guest-apt.log" 2>&1 </dev/null || fail_with_log apt "apt-get could not install $*"
}

# --- The build ------------------------------------------------------------------------------------------------------

build_sysroot() {
    say "building a sysroot for $TARGET with Debian's rustc; this takes a minute or two, once"
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    work=$(mktemp -d "$cache/.guest-build.XXXXXX")
    # What the caller set for its own build would change or break this one.
    unset RUSTC RUSTDOC RUSTFLAGS RUSTC_WORKSPACE_WRAPPER RUSTUP_TOOLCHAIN
    unset CARGO_BUILD_RUSTC CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET CARGO_BUILD_TARGET_DIR CARGO_TARGET_DIR
    export RUSTC_WRAPPER='' CARGO_ENCODED_RUSTFLAGS=''

    # Neither of the first two fills two cores on its own, and neither needs the other.
    local std linker
    start std build_std
    std=$!
    start linker build_linker
    linker=$!
    wait "$linker" || fail_with_log linker "cargo could not build wasm-component-ld $LINKER_VERSION"
    say "wasm-component-ld is built; std is next"
    wait "$std" || fail_with_log std "cargo could not build std"
    start link assemble
    wait $! || fail_with_log link "the new sysroot does not link a component"

    rm -rf "$sysroot" # There is something only if it was found unusable.
    mv -T "$work/sysroot" "$sysroot"
    drop_old_sysroots
    say "the sysroot is ready"
}

# In the background a step can be ended when we are, and it stops at its first error, which it would not do before `||`.
start() { "$2" >"$cache/guest-$1.log" 2>&1 </dev/null & }

# Nothing is written beside the sources: --locked keeps Cargo.lock as it is, and the target directory is ours. Panic
# messages hold source paths; with the user's home mapped away, what std adds to a guest is the same for everybody.
build_std() {
    cd /usr/lib/rustlib/src/rust/library/sysroot
    local cargo_home=${CARGO_HOME:-$HOME/.cargo}
    export CARGO_ENCODED_RUSTFLAGS="-Zforce-unstable-if-unmarked"$'\x1f'"--remap-path-prefix=$cargo_home=/cargo"
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$work/std
    exec "$active/bin/cargo" build --locked --profile dist --target "$TARGET"
}

# The wrapper around wasm-ld is quick whatever its optimization, so its profile is the one that compiles fastest.
build_linker() {
    cd "$work"
    export RUSTC=$active/bin/rustc CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_DEBUG=0
    export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_STRIP=true
    exec "$active/bin/cargo" install wasm-component-ld --version "$LINKER_VERSION" --locked --no-track \
        --root "$work/linker" --target-dir "$work/linker-target"
}

assemble() {
    local rustlib=$work/sysroot/lib/rustlib
    local libs=$rustlib/$TARGET/lib
    mkdir -p "$work/sysroot/bin" "$libs/self-contained" "$rustlib/$host/bin"
    mv "$work/std/$TARGET"/dist/deps/*.rlib "$libs/"
    ln -s "/usr/lib/rustlib/$host/lib" "$rustlib/$host/lib" # Build scripts and macros run on the host.
    # wasm-component-ld looks for wasm-ld beside itself.
    mv "$work/linker/bin/wasm-component-ld" "$rustlib/$host/bin/"
    ln -s "/usr/lib/llvm-$llvm/bin/wasm-ld" "$rustlib/$host/bin/wasm-ld"
    # A symlink would not do: rustc finds its sysroot from where its real file is.
    local tool quoted=${sysroot//\'/\'\\\'\'}
    for tool in rustc rustdoc; do
        printf "#!/bin/sh\nexec /usr/bin/%s --sysroot '%s' \"\$@\"\n" "$tool" "$quoted" >"$work/sysroot/bin/$tool"
        chmod 755 "$work/sysroot/bin/$tool"
    done

    cp /usr/lib/wasm32-wasi/{libc.a,crt1-reactor.o} "$libs/self-contained/"
    compile_object crt1_command "$libs/self-contained/crt1-command.o"
    compile_object libc_stubs "$work/libc_stubs.o"
    # The host's ar cannot index wasm objects, so it is told not to try (S); wasm-ld reads the members themselves.
    ar qS "$libs/self-contained/libc.a" "$work/libc_stubs.o"

    compile "$here/guest-toolchain/probe.rs" "$work/probe.wasm"
    [[ $(od -An -tx1 -N8 "$work/probe.wasm") == ' 00 61 73 6d 0d 00 01 00' ]] # A component, not a core module.
}

compile_object() {
    compile "$here/guest-toolchain/$1.rs" "$2" --crate-type lib --emit obj -C panic=abort -C codegen-units=1
}

compile() { /usr/bin/rustc --sysroot "$work/sysroot" --target "$TARGET" --edition 2024 -O "$1" -o "$2" "${@:3}"; }

drop_old_sysroots() {
    find "$cache" -maxdepth 1 -name 'guest-sysroot-????????????????' -printf '%T@\t%p\0' | sort -zrn |
        tail -z -n +$((KEPT_SYSROOTS + 1)) | cut -z -f2- | xargs -0 -r rm -rf --
}

fail_with_log() {
    printf -- '--- the last lines of %s:\n' "$cache/guest-$1.log" >&2
    tail -n 40 "$cache/guest-$1.log" >&2
    die "$2"
}

# shellcheck disable=SC2317 # The trap calls it.
clean_up() {
    local children
    children=$(jobs -pr)
    # shellcheck disable=SC2086 # One word for each process.
    [[ -z $children ]] || kill $children || true
    wait
    # A compiler may outlive its cargo and write here a little longer; what it leaves, the next build removes.
    [[ -z ${work:-} ]] || rm -rf "$work" 2>/dev/null || true
}
