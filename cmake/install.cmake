# Where things go, for find_package(efio), for pkg-config and for the packages.
include(CMakePackageConfigHelpers)

set(libraries efio)
if(TARGET efnet_static)
  list(APPEND libraries efnet)
endif()

set(kinds static)
if(EFIO_BUILD_SHARED)
  list(APPEND kinds shared)
endif()
set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/efio)
foreach(kind IN LISTS kinds)
  foreach(library IN LISTS libraries)
    install(TARGETS ${library}_${kind} EXPORT efio-${kind}
      ARCHIVE COMPONENT development
      LIBRARY COMPONENT runtime NAMELINK_COMPONENT development)
  endforeach()
  install(EXPORT efio-${kind} NAMESPACE efio:: DESTINATION ${config_dir} COMPONENT development)
endforeach()

# Public headers are those of the two floors that do not say "// Internal: why" in a line of their own.
file(GLOB headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/efio/*.h
  ${PROJECT_SOURCE_DIR}/efnet/*.h ${PROJECT_SOURCE_DIR}/efnet/*/*.h)
foreach(header IN LISTS headers)
  file(STRINGS ${PROJECT_SOURCE_DIR}/${header} internal REGEX "^// Internal:" LIMIT_COUNT 1)
  if(NOT internal)
    cmake_path(GET header PARENT_PATH folder)
    install(FILES ${PROJECT_SOURCE_DIR}/${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/${folder} COMPONENT development)
  endif()
endforeach()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/efioConfig.cmake.in ${PROJECT_BINARY_DIR}/efioConfig.cmake
  INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/efioConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/efioConfig.cmake ${PROJECT_BINARY_DIR}/efioConfigVersion.cmake
  DESTINATION ${config_dir} COMPONENT development)

file(RELATIVE_PATH prefix_from_pc ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" prefix_from_pc ${prefix_from_pc})
# Libs.private, not Requires.private: who links efio statically still takes libpcap as Debian ships it, shared; the
# latter would ask for what only a static libpcap needs (dbus, systemd).
list(JOIN EFIO_PC_LIBS_PRIVATE " " libs_private)
foreach(library IN LISTS libraries)
  configure_file(${PROJECT_SOURCE_DIR}/packaging/${library}.pc.in ${PROJECT_BINARY_DIR}/${library}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${library}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
endforeach()

install(DIRECTORY DESTINATION ${CMAKE_INSTALL_LIBDIR}/efio/plugins COMPONENT runtime)

include(packages)
