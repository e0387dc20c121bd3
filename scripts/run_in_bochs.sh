#!/usr/bin/env bash
# Runs a statically linked program on an emulated CPU with AVX-512: run_in_bochs.sh PROGRAM [ARG...]
# Prints what the program prints and exits as it does. Arguments that name files take these along, and
# PYINIT_* variables are passed on. The program is real machine code, executed by the bochs emulator
# under a Debian kernel; booting takes 40 s.
# Exit status 77: a tool is missing, nothing was run.
# BOCHS_CPU picks the CPU model; BOCHS_KERNEL a kernel image instead of Debian's newest.
set -euo pipefail
program=$(realpath "$1")
shift
here=$(cd "$(dirname "$0")" && pwd)
cache=$here/../build/bochs
isolinux=/usr/lib/ISOLINUX/isolinux.bin
ldlinux=/usr/lib/syslinux/modules/bios/ldlinux.c32
vgabios=/usr/share/vgabios/vgabios.bin
bios=/usr/share/bochs/BIOS-bochs-latest

for need in bochs-bin xorriso cpio gcc "$isolinux" "$ldlinux" "$vgabios" "$bios"; do
  if ! command -v "$need" >/dev/null && ! [ -r "$need" ]; then
    echo "run_in_bochs: SKIPPED, no $need" \
      "(Debian: bochs bochs-term xorriso cpio isolinux syslinux-common gcc)" >&2
    exit 77
  fi
done

# The smallest kernel Debian has. It is unpacked here, not installed.
find_kernel() {
  if [ -n "${BOCHS_KERNEL:-}" ]; then
    echo "$BOCHS_KERNEL"
    return
  fi
  if ! [ -r "$cache/vmlinuz" ]; then
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends:/ {print $2; exit}')
    [ -n "$package" ] || return 1
    rm -rf "$cache/download"
    mkdir -p "$cache/download"
    (cd "$cache/download" && apt-get download -qq "$package" >/dev/null 2>&1 && dpkg -x ./*.deb .) || return 1
    mv "$cache"/download/boot/vmlinuz-* "$cache/vmlinuz"
    rm -rf "$cache/download"
  fi
  echo "$cache/vmlinuz"
}

if ! kernel=$(find_kernel); then
  echo "run_in_bochs: SKIPPED, no kernel package to be had (or set BOCHS_KERNEL)" >&2
  exit 77
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/initrd" "$work/iso/isolinux"

gcc -O2 -static -o "$work/initrd/init" "$here/emulated_init.c"
cp "$program" "$work/initrd/program"
strip "$work/initrd/program"
arguments=()
for argument; do
  if [ -f "$argument" ]; then
    cp "$argument" "$work/initrd/"
    argument=/$(basename "$argument")
  fi
  arguments+=("$argument")
done
(cd "$work/initrd" && find . | cpio -o -H newc --quiet) > "$work/iso/initrd.img"
cp "$kernel" "$work/iso/vmlinuz"
cp "$isolinux" "$ldlinux" "$work/iso/isolinux/"

# bochs reports a wrong size for the compacted XSAVE area, and the kernel would then refuse AVX-512:
# hence noxsaves and clearcpuid.
environment=$(env | grep -E '^PYINIT_[A-Z_]+=[^ ]*$' | tr '\n' ' ' || true)
cat > "$work/iso/isolinux/isolinux.cfg" <<END
default program
prompt 0
label program
  kernel /vmlinuz
  append initrd=/initrd.img console=ttyS0,115200 loglevel=0 noxsaves clearcpuid=xsavec nokaslr mitigations=off panic=-1 reboot=t $environment -- program ${arguments[*]}
END
xorriso -as mkisofs -quiet -o "$work/disk.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat \
  -no-emul-boot -boot-load-size 4 -boot-info-table "$work/iso" 2>/dev/null

cat > "$work/bochsrc" <<END
plugin_ctrl: unmapped=0, speaker=0, gameport=0, extfpuirq=0
display_library: rfb, options="timeout=0"
romimage: file=$bios
vgaromimage: file=$vgabios
cpu: model=${BOCHS_CPU:-corei7_skylake_x}, count=1, ips=20000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest=256, host=256
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$work/disk.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/console
clock: sync=none, time0=0
log: $work/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
END
echo c > "$work/debugger"  # Debian's bochs starts in its debugger: continue

touch "$work/console"
timeout 1200 bochs-bin -q -rc "$work/debugger" -f "$work/bochsrc" </dev/null >"$work/bochs.out" 2>&1 || true

tr -d '\r' < "$work/console" | sed -n '/^== program begins ==$/,/^== program ended/{/^==/!p}'
status=$(tr -d '\r' < "$work/console" | sed -n 's/^== program ended: \([0-9]*\) ==$/\1/p')
if [ -z "$status" ]; then
  echo "run_in_bochs: the program did not finish; the emulator's last words:" >&2
  tail -n 20 "$work/console" "$work/bochs.log" "$work/bochs.out" >&2
  exit 1
fi
exit "$status"
