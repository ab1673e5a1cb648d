// The subcommands that run a component until SIGTERM. Each registers its flags on a CLI11 subcommand and sets
// the process's exit status.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace keelson {

void AddMasterCommand(CLI::App& app, int* exit_status);
void AddKubeletCommand(CLI::App& app, int* exit_status);
void AddProxyCommand(CLI::App& app, int* exit_status);
void AddCriCommand(CLI::App& app, int* exit_status);
// For an executable called through a symlink named `kubelet`: the flags stand at the top level.
void AddKubeletFlags(CLI::App& app, int* exit_status);

}  // namespace keelson
