# What the library stands on. A new dependency is: a line here, its package in packaging/packages.txt, and for a static
# consumer nothing more: efioConfig.cmake and efio.pc are filled from these two lists.
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
set(EFIO_PKG_MODULES libpcap libnl-route-3.0 libbpf)
set(EFIO_PC_LIBS_PRIVATE -lfmt)

set(EFIO_PRIVATE_LIBRARIES fmt::fmt)
foreach(module IN LISTS EFIO_PKG_MODULES)
  string(MAKE_C_IDENTIFIER ${module} id)
  pkg_check_modules(${id} REQUIRED IMPORTED_TARGET ${module})
  list(APPEND EFIO_PRIVATE_LIBRARIES PkgConfig::${id})
  list(TRANSFORM ${id}_LIBRARIES PREPEND -l OUTPUT_VARIABLE links)
  list(APPEND EFIO_PC_LIBS_PRIVATE ${links})
endforeach()
