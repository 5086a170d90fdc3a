// What a program's option table already says, in the forms that a system wants: man page, bash and zsh completion.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace efio::tools {

// Adds --version and the hidden options --help-man, --help-bash and --help-zsh, which print these texts and end the
// program with 0 (by CLI::Success, which App::exit() turns into 0). The build uses them; call it on the outermost App.
//
// The App's name is the program's; the first line of its description is the one of the man page's NAME, the rest its
// DESCRIPTION; its footer, one command a line, becomes EXAMPLES. A choice given by CLI::IsMember is completed, a type
// name that contains FILE completes file names. Options and commands of the group "" stay hidden.
void add_help(CLI::App& app);

std::string man_page(const CLI::App& app);
std::string bash_completion(const CLI::App& app);
std::string zsh_completion(const CLI::App& app);

}  // namespace efio::tools
