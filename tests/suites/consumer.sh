# Installs into a prefix of its own, then builds and runs tests/consumer as a stranger would: find_package with the
# shared and the static libraries, pkg-config with both. Then looks at what was installed.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cmake --install "$EFIO_BUILD_DIR" --prefix "$work/prefix" >/dev/null

libdir=$(dirname "$(find "$work/prefix" -name libefio.a)")
static=$work/static; cp -r "$work/prefix" "$static"
find "$static" -name '*.so*' -delete; rm -f "${libdir/#$work\/prefix/$static}"/cmake/efio/efio-shared*.cmake
export LD_LIBRARY_PATH=$libdir

built() {  # built PROGRAM static|shared: runs it, and checks that it is what it should be
  "$1" | grep -qE '^efio [0-9]+\.[0-9]+\.[0-9]+'
  local links=static; readelf -d "$1" | grep -q 'NEEDED.*libefio' && links=shared
  [ "$links" = "$2" ] || { echo "$1 is $links, not $2"; exit 1; }
}
hosts() {  # hosts FOLDER: the program there runs the plugin there, by its path and by its name
  for how in "$1/stranger.so" stranger; do
    [ "$(EFIO_PLUGIN_PATH=$1 "$1/host" "$how:long")" = "stranger: 2 passed, 1 dropped, 1 answered with 1000 bytes" ] ||
      { echo "$1/host $how:"; EFIO_PLUGIN_PATH=$1 "$1/host" "$how:long"; exit 1; }
  done
  ! readelf -d "$1/stranger.so" | grep -q 'NEEDED.*libef' || { echo "the plugin needs a library"; exit 1; }
}
with_cmake() {  # with_cmake NAME PREFIX EXPECTED [OPTION…]
  local name=$1 prefix=$2 expected=$3; shift 3
  cmake -G Ninja -S "$EFIO_SOURCE_DIR/tests/consumer" -B "$work/$name" -DCMAKE_PREFIX_PATH="$prefix" "$@" >/dev/null
  cmake --build "$work/$name" >/dev/null
  built "$work/$name/consumer" "$expected"; hosts "$work/$name"; echo "find_package $*: $expected"
}
with_pkg_config() {  # with_pkg_config NAME PREFIX EXPECTED [FLAG]
  mkdir "$work/$1"; cp "$EFIO_SOURCE_DIR"/tests/consumer/{Makefile,*.cpp} "$work/$1"
  PKG_CONFIG_PATH=${libdir/#$work\/prefix/$2}/pkgconfig make -s -C "$work/$1" consumer host stranger.so PKG_CONFIG_FLAGS="${4-}"
  built "$work/$1/consumer" "$3"; hosts "$work/$1"; echo "pkg-config ${4-}: $3"
}

with_cmake default "$work/prefix" shared
with_cmake asked-static "$work/prefix" static -DKIND=static
with_cmake asked-shared "$work/prefix" shared -DKIND=shared
with_cmake off "$work/prefix" static -DBUILD_SHARED_LIBS=OFF
with_cmake only-static "$static" static
with_pkg_config pc-shared "$work/prefix" shared
with_pkg_config pc-static "$static" static --static

# The folder of the installed plugins is there.
[ -d "$libdir/efio/plugins" ] || { echo "no $libdir/efio/plugins"; exit 1; }

# The installed headers need nothing of the source tree. (That each compiles alone, the build has checked.)
(cd "$work/prefix/include" && find . -name '*.h' -printf '#include "%P"\n') >"$work/headers.cpp"
[ "$(wc -l <"$work/headers.cpp")" -gt 50 ] || { echo "few headers are installed"; exit 1; }
g++ -std=c++23 -Wall -Wextra -Werror -fsyntax-only -I"$work/prefix/include" "$work/headers.cpp"

# Nothing is shown that is not meant to be: every exported symbol is of one of the two namespaces.
for library in "$libdir"/libefio.so "$libdir"/libefnet.so; do
  [ -e "$library" ] || continue
  strangers=$(nm -D --defined-only -C "$library" | awk '$2 ~ /[TDBR]/' | grep -vE 'efio::|efnet::' || true)
  [ -z "$strangers" ] || { echo "$library shows:"; echo "$strangers"; exit 1; }
done
soname=$(readelf -d "$libdir/libefio.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[[ $soname =~ ^libefio\.so\.(0\.[0-9]+|[1-9][0-9]*)$ ]] || { echo "SONAME $soname"; exit 1; }
