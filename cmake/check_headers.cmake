# Each header compiles alone, and twice: one object each, in the target `check_headers`.
file(GLOB headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}
  efio/*.h efio/engines/*.h efnet/*.h efnet/*/*.h)
set(sources "")
foreach(header IN LISTS headers)
  set(source ${PROJECT_BINARY_DIR}/check_headers/${header}.cpp)
  file(CONFIGURE OUTPUT ${source} CONTENT "#include \"${header}\"\n#include \"${header}\"\n")
  list(APPEND sources ${source})
endforeach()
add_library(check_headers OBJECT EXCLUDE_FROM_ALL ${sources})
target_include_directories(check_headers PRIVATE ${PROJECT_SOURCE_DIR})
target_compile_options(check_headers PRIVATE -O0 -g0)
efio_warnings(check_headers)
