# `format` rewrites every source by .clang-format, `format_check` fails where one differs.
find_program(EFIO_CLANG_FORMAT clang-format-19)
if(EFIO_CLANG_FORMAT)
  set(find_sources "git ls-files -z -co --exclude-standard -- '*.h' '*.cpp' | xargs -0r ${EFIO_CLANG_FORMAT}")
  add_custom_target(format COMMAND sh -c "${find_sources} -i" WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} VERBATIM)
  add_custom_target(format_check COMMAND sh -c "${find_sources} --dry-run -Werror"
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} VERBATIM)
endif()
