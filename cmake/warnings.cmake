# efio_warnings(TARGET [TEST]): the set that g++ 12 and clang 19 both live with. TEST leaves out the conversion
# warnings, which make test data hard to read.
function(efio_warnings target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TEST" "" "")
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
    -Wextra-semi -Wformat=2 -Wimplicit-fallthrough -Wno-missing-field-initializers)
  if(NOT arg_TEST)
    target_compile_options(${target} PRIVATE -Wconversion -Wsign-conversion)
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    # g++ 12's stable_sort calls what its own headers call deprecated, and clang tells us of it.
    target_compile_options(${target} PRIVATE -Wno-deprecated-declarations)
  endif()
  if(EFIO_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endfunction()
