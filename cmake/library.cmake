# efio_library(NAME SOURCES … [LINK PUBLIC_LIBRARIES…] [PRIVATE LIBRARIES…])
#
# Compiles the sources once (hidden visibility, position independent) and makes of them NAME_static and, with
# EFIO_BUILD_SHARED, NAME_shared. In the tree efio::NAME is the static one: programs, tests and examples link it.
# LINK names other libraries of this project without their suffix.
set(EFIO_SOVERSION ${PROJECT_VERSION_MAJOR})
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(EFIO_SOVERSION 0.${PROJECT_VERSION_MINOR}) # before 1.0 each minor may change the ABI
endif()

function(efio_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINK;PRIVATE")

  add_library(${name}_objects OBJECT ${arg_SOURCES})
  set_target_properties(${name}_objects PROPERTIES
    POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  target_compile_options(${name}_objects PRIVATE -fno-semantic-interposition)
  target_include_directories(${name}_objects PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name}_objects PRIVATE ${arg_PRIVATE})
  efio_warnings(${name}_objects)
  efio_precompile(${name}_objects ${EFIO_STANDARD_HEADERS})

  set(kinds static)
  add_library(${name}_static STATIC $<TARGET_OBJECTS:${name}_objects>)
  if(EFIO_BUILD_SHARED)
    list(APPEND kinds shared)
    add_library(${name}_shared SHARED $<TARGET_OBJECTS:${name}_objects>)
    set_target_properties(${name}_shared PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${EFIO_SOVERSION})
    target_link_options(${name}_shared PRIVATE -Wl,--as-needed -Wl,--no-undefined)
  endif()
  foreach(kind IN LISTS kinds)
    set(target ${name}_${kind})
    set_target_properties(${target} PROPERTIES OUTPUT_NAME ${name} LINKER_LANGUAGE CXX)
    target_compile_features(${target} INTERFACE cxx_std_23)
    target_include_directories(${target} INTERFACE
      $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    foreach(library IN LISTS arg_LINK)
      target_link_libraries(${target} PUBLIC ${library}_${kind})
    endforeach()
    target_link_libraries(${target} PRIVATE ${arg_PRIVATE})
  endforeach()
  add_library(efio::${name} ALIAS ${name}_static)
endfunction()
