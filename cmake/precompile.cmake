# efio_precompile(TARGET HEADER… | REUSE_FROM OTHER): the headers that most of the target's files include anyway are read once. Each file
# still includes what it uses: with EFIO_PRECOMPILE=OFF (and with a compiler cache, which cannot see through a
# precompiled header) nothing else makes up for one that is missing.
set(default ON)
if(CMAKE_CXX_COMPILER_LAUNCHER OR CMAKE_CXX_CLANG_TIDY)
  set(default OFF)
endif()
option(EFIO_PRECOMPILE "Precompile the standard headers and those of test frameworks" ${default})

set(EFIO_STANDARD_HEADERS <algorithm> <array> <atomic> <bit> <charconv> <chrono> <expected> <functional> <map> <memory>
  <mutex> <optional> <span> <string> <string_view> <utility> <vector> <fmt/format.h>)

function(efio_precompile target)
  if(EFIO_PRECOMPILE)
    if("${ARGV1}" STREQUAL REUSE_FROM)
      target_precompile_headers(${target} REUSE_FROM ${ARGV2})
    else()
      target_precompile_headers(${target} PRIVATE ${ARGN})
    endif()
  endif()
endfunction()
