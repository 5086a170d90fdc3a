# efio_bpf_program(TARGET SOURCE NAME [OPTION…]): compiles SOURCE (*.bpf.c) for the kernel with these options and embeds it:
# TARGET may include "NAME.skel.h", which defines struct NAME.
find_program(EFIO_BPF_CLANG NAMES clang-19 clang REQUIRED)
find_program(EFIO_BPFTOOL bpftool PATHS /usr/sbin /sbin REQUIRED)

function(efio_bpf_program target source name)
  set(folder ${PROJECT_BINARY_DIR}/bpf)
  file(MAKE_DIRECTORY ${folder})
  set(object ${folder}/${name}.o)
  # clang for bpf knows no multiarch folder, where Debian has <asm/types.h>. Linking leaves the DWARF sections away.
  add_custom_command(OUTPUT ${object}
    COMMAND ${EFIO_BPF_CLANG} -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -I${PROJECT_SOURCE_DIR}
      -idirafter /usr/include/${CMAKE_CXX_LIBRARY_ARCHITECTURE} ${ARGN} -MD -MT ${object} -MF ${object}.d
      -c ${source} -o ${object}.unlinked
    COMMAND ${EFIO_BPFTOOL} gen object ${object} ${object}.unlinked
    DEPENDS ${source} DEPFILE ${object}.d VERBATIM)
  set(skeleton ${folder}/${name}.skel.h)
  add_custom_command(OUTPUT ${skeleton}
    COMMAND ${CMAKE_COMMAND} -E echo "// NOLINTBEGIN: made by bpftool" > ${skeleton}.new
    COMMAND ${EFIO_BPFTOOL} gen skeleton ${object} name ${name} >> ${skeleton}.new
    COMMAND ${CMAKE_COMMAND} -E echo "// NOLINTEND" >> ${skeleton}.new
    COMMAND ${CMAKE_COMMAND} -E rename ${skeleton}.new ${skeleton}
    DEPENDS ${object} VERBATIM)
  target_sources(${target} PRIVATE ${skeleton})
  target_include_directories(${target} SYSTEM PRIVATE ${folder})
endfunction()
