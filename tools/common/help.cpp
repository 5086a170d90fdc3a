#include "tools/common/help.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string_view>
#include <vector>

#include "efio/version.h"

namespace efio::tools {
namespace {

using Options = std::vector<const CLI::Option*>;

// A command and where it stands: "" for the program itself, " arp flush" for one two words deep.
struct Command {
  std::string path;
  const CLI::App* app;
};

// Options of unnamed groups belong to the App around them.
Options visible_options(const CLI::App& app) {
  Options found = app.get_options([](const CLI::Option* option) { return !option->get_group().empty(); });
  for (const CLI::App* group : app.get_subcommands([](const CLI::App* sub) { return sub->get_name().empty(); })) {
    const Options inner = visible_options(*group);
    found.insert(found.end(), inner.begin(), inner.end());
  }
  return found;
}

std::vector<const CLI::App*> visible_commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* sub) { return !sub->get_name().empty() && !sub->get_group().empty(); });
}

void collect(const CLI::App& app, const std::string& path, std::vector<Command>& into) {
  into.push_back({path, &app});
  for (const CLI::App* sub : visible_commands(app)) collect(*sub, path + " " + sub->get_name(), into);
}

std::vector<Command> commands(const CLI::App& app) {
  std::vector<Command> all;
  collect(app, "", all);
  return all;
}

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
  return text;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

std::vector<std::string> lines(const std::string& text) { return CLI::detail::split(text, '\n'); }

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::vector<std::string> names(const CLI::Option& option) {
  std::vector<std::string> all;
  for (const std::string& name : option.get_snames()) all.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) all.push_back("--" + name);
  return all;
}

// "TEXT:{a,b}" is how CLI11 names a type with a choice.
std::string placeholder(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const std::string word = type.substr(0, type.find(':'));
  return word.empty() ? "VALUE" : word;
}

std::vector<std::string> choices(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const auto open = type.find(":{");
  const auto close = type.find('}');
  if (open == std::string::npos || close == std::string::npos || type.find("->") != std::string::npos) return {};
  return CLI::detail::split(type.substr(open + 2, close - open - 2), ',');
}

bool takes_file(const CLI::Option& option) { return option.get_type_name().find("FILE") != std::string::npos; }

std::string positional_text(const CLI::Option& option) {
  std::string text = option.get_name(true);
  if (option.get_items_expected_max() > 1) text += "...";
  return option.get_required() ? text : "[" + text + "]";
}

// In the order of the option table, positionals first.
std::string usage(const CLI::App& program, const Command& command) {
  std::string text = program.get_name() + command.path;
  if (!visible_commands(*command.app).empty()) text += " COMMAND";
  for (const CLI::Option* option : visible_options(*command.app))
    if (option->get_positional()) text += " " + positional_text(*option);
  return text;
}

// ---- man

std::string troff(const std::string& text) {
  std::string safe = replaced(replaced(text, "\\", "\\e"), "-", "\\-");
  safe = replaced(replaced(safe, "'", "\\(aq"), "\n.", "\n\\&.");
  return safe.starts_with('.') ? "\\&" + safe : safe;
}

std::string man_option(const CLI::Option& option) {
  std::string term;
  if (option.get_positional()) {
    term = "\\fI" + troff(option.get_name(true)) + "\\fR";
  } else {
    for (const std::string& name : names(option)) term += (term.empty() ? "\\fB" : ", \\fB") + troff(name) + "\\fR";
    if (takes_value(option)) term += " \\fI" + troff(placeholder(option)) + "\\fR";
  }
  std::string text = option.get_description();
  if (const auto words = choices(option); !words.empty()) text += " (one of: " + CLI::detail::join(words, ", ") + ")";
  if (!option.get_default_str().empty()) text += " [" + option.get_default_str() + "]";
  return ".TP\n" + term + "\n" + troff(text) + "\n";
}

std::string man_options(const CLI::App& app) {
  std::string text;
  for (const CLI::Option* option : visible_options(app))
    if (option->get_positional()) text += man_option(*option);
  for (const CLI::Option* option : visible_options(app))
    if (!option->get_positional() && (app.get_parent() == nullptr || option != app.get_help_ptr()))
      text += man_option(*option);
  return text;
}

std::string man_paragraphs(const std::string& text) {
  std::string out;
  for (const std::string& line : lines(text)) out += line.empty() ? ".PP\n" : troff(line) + "\n";
  return out;
}

// ---- completion: one function that finds the command among the words already there, then offers what may follow

std::string shell_quoted(const std::string& text) { return "'" + replaced(text, "'", "'\\''") + "'"; }

std::string function_name(const CLI::App& app) { return "_" + replaced(app.get_name(), "-", "_"); }

// The case lines that walk from command to command; `command` holds the path so far.
std::string walk(const CLI::App& app) {
  std::string text;
  for (const Command& command : commands(app)) {
    if (command.path.empty()) continue;
    const auto cut = command.path.rfind(' ');
    text += fmt::format("      {}) command={} ;;\n",
                        shell_quoted(command.path.substr(0, cut) + "," + command.path.substr(cut + 1)),
                        shell_quoted(command.path));
  }
  return text;
}

// The case lines for the word after an option that takes a value.
std::string values(const CLI::App& app, std::string_view offer_words, std::string_view offer_files) {
  std::string text;
  for (const CLI::Option* option : visible_options(app)) {
    if (option->get_positional() || !takes_value(*option)) continue;
    std::string action;
    if (const auto words = choices(*option); !words.empty())
      action = fmt::format(fmt::runtime(offer_words), CLI::detail::join(words, " "));
    else if (takes_file(*option))
      action = offer_files;
    text += fmt::format("        {}) {}return ;;\n", CLI::detail::join(names(*option), "|"),
                        action.empty() ? "" : action + "; ");
  }
  return text.empty() ? text : "      case $prev in\n" + text + "      esac\n";
}

}  // namespace

void add_help(CLI::App& app) {
  app.set_version_flag("--version", app.get_name() + " " + std::string(version()), "Print the version");
  const auto add = [&app](const char* name, std::string (*text)(const CLI::App&)) {
    app.add_flag_callback(name,
                          [&app, text] {
                            std::fputs(text(app).c_str(), stdout);
                            throw CLI::Success();
                          })
        ->group("");
  };
  add("--help-man", man_page);
  add("--help-bash", bash_completion);
  add("--help-zsh", zsh_completion);
}

std::string man_page(const CLI::App& app) {
  const std::string& name = app.get_name();
  const std::string description = app.get_description();
  std::string page = fmt::format(".TH \"{}\" 1 \"\" \"efio {}\" \"efio\"\n", troff(name), version());
  page += fmt::format(".SH NAME\n{} \\- {}\n", troff(name), troff(first_line(description)));

  page += ".SH SYNOPSIS\n.nf\n";
  for (const Command& command : commands(app)) {
    const bool runs = command.app->get_require_subcommand_min() == 0;
    if (runs) page += troff(usage(app, command)) + " [OPTION...]\n";
  }
  page += ".fi\n";

  if (const auto rest = description.find('\n'); rest != std::string::npos)
    page += ".SH DESCRIPTION\n" + man_paragraphs(description.substr(description.find_first_not_of('\n', rest)));
  page += ".SH OPTIONS\n" + man_options(app);
  for (const Command& command : commands(app)) {
    if (command.path.empty()) continue;
    page += fmt::format(".SS \"{}\"\n{}", troff(usage(app, command)), man_paragraphs(command.app->get_description()));
    page += man_options(*command.app);
  }
  if (!app.get_footer().empty()) page += ".SH EXAMPLES\n.nf\n" + troff(app.get_footer()) + "\n.fi\n";
  page +=
      ".SH EXIT STATUS\n.TP\n0\ndone\n.TP\n1\nthe run did not meet what was asked of it\n.TP\n2\nusage\n.TP\n3\n"
      "device, permission or environment\n";
  return page;
}

std::string bash_completion(const CLI::App& app) {
  const std::string function = function_name(app);
  std::string text = fmt::format(
      "# bash completion of {0}\n{1}() {{\n"
      "  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command= word words=\n"
      "  COMPREPLY=()\n"
      "  for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n"
      "    case $command,$word in\n{2}      *) ;;\n    esac\n  done\n"
      "  case $command in\n",
      app.get_name(), function, walk(app));
  for (const Command& command : commands(app)) {
    std::vector<std::string> words;
    for (const CLI::App* sub : visible_commands(*command.app)) words.push_back(sub->get_name());
    for (const CLI::Option* option : visible_options(*command.app))
      if (!option->get_positional())
        for (const std::string& name : names(*option)) words.push_back(name);
    text += fmt::format("    {})\n{}      words={}\n      ;;\n", shell_quoted(command.path),
                        values(*command.app, "mapfile -t COMPREPLY < <(compgen -W '{}' -- \"$cur\")",
                               "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")"),
                        shell_quoted(CLI::detail::join(words, " ")));
  }
  text += fmt::format(
      "  esac\n  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n}}\n"
      "complete -o default -F {} {}\n",
      function, app.get_name());
  return text;
}

std::string zsh_completion(const CLI::App& app) {
  std::string text = fmt::format(
      "#compdef {0}\n{1}() {{\n"
      "  local prev=$words[CURRENT-1] command= word\n"
      "  local -a commands options\n"
      "  for word in ${{words[2,CURRENT-1]}}; do\n"
      "    case $command,$word in\n{2}      *) ;;\n    esac\n  done\n"
      "  case $command in\n",
      app.get_name(), function_name(app), walk(app));
  const auto entry = [](const std::string& name, const std::string& description) {
    return " " + shell_quoted(replaced(name, ":", "\\:") + ":" + first_line(description));
  };
  for (const Command& command : commands(app)) {
    std::string subs;
    std::string options;
    for (const CLI::App* sub : visible_commands(*command.app)) subs += entry(sub->get_name(), sub->get_description());
    for (const CLI::Option* option : visible_options(*command.app))
      if (!option->get_positional())
        for (const std::string& name : names(*option)) options += entry(name, option->get_description());
    text += fmt::format("    {})\n{}      commands=({} )\n      options=({} )\n      ;;\n", shell_quoted(command.path),
                        values(*command.app, "compadd {}", "_files"), subs, options);
  }
  text += fmt::format(
      "  esac\n  (( $#commands )) && _describe command commands\n"
      "  if [[ $PREFIX == -* ]]; then _describe -o option options; else _files; fi\n}}\n{} \"$@\"\n",
      function_name(app));
  return text;
}

}  // namespace efio::tools
