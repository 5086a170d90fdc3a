# Builds the Debian packages, looks into them, and runs what they hold from an empty directory.
set -euo pipefail
cd "$EFIO_SOURCE_DIR"
cmake --preset deb >/dev/null
cmake --build --preset deb
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
(cd build/deb && cpack -B "$work/packages" >"$work/cpack.log" 2>&1) || { cat "$work/cpack.log"; exit 1; }

holds() {  # holds PACKAGE PATH…
  local package=$1 list; shift
  list=$(dpkg-deb -c "$work"/packages/"${package}"_*.deb)
  for path in "$@"; do
    grep -qE -- " \./usr/$path( ->|$)" <<<"$list" || { echo "$package lacks /usr/$path:"; echo "$list"; exit 1; }
  done
  dpkg-deb -x "$work"/packages/"${package}"_*.deb "$work/root"
}
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH)
holds libefio0 "lib/$multiarch/libefio\.so\.0\.[0-9]+" "lib/$multiarch/efio/plugins/" "share/doc/libefio0/copyright"
holds libefio-dev include/efio/version.h "lib/$multiarch/libefio\.(a|so)" "lib/$multiarch/pkgconfig/efio.pc" \
  "lib/$multiarch/cmake/efio/efioConfig.cmake"
tools=$(find build/deb/bin -maxdepth 1 -type f -perm -u+x -printf '%f\n' 2>/dev/null || true)
for tool in $tools; do
  holds efio-tools "bin/$tool" "share/man/man1/$tool\.1(\.gz)?" "share/bash-completion/completions/$tool" \
    "share/zsh/(vendor-completions|site-functions)/_$tool"
  "$work/root/usr/bin/$tool" --version
done
holds efio-tools "lib/systemd/system/efio-broker.service"
if readelf -d "$work/root/usr/lib/$multiarch"/libefio.so.0.? | grep -q NEEDED; then
  dpkg-deb -f "$work"/packages/libefio0_*.deb Depends | grep -qE 'lib(c|stdc[+][+])6' || { echo "libefio0 states no dependencies"; exit 1; }
fi
if find "$work/root" -path '*efio/engines*' | grep -q .; then echo "internal headers are installed"; exit 1; fi
ls "$work/packages"/*.deb | xargs -n1 basename
