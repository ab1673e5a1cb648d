// `keelson image pull|ls|rm|inspect|import|export`: the images of this node. Through the CRI server when one
// answers at its socket, else on the image store itself, which then is locked meanwhile.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "images/image_store.h"

namespace keelson {

void AddImageCommand(CLI::App& app, int* exit_status);

// One row of `ls`.
struct ImageRow {
  std::vector<std::string> names;  // tags, else digests
  std::string id;
  uint64_t size_bytes = 0;
  bool pinned = false;
};
// A table with one line for each name, ordered by it.
std::string FormatImages(std::vector<ImageRow> rows, bool full_ids);

// "12.3 MiB".
std::string FormatBytes(uint64_t bytes);

// What a pull has done so far, as one line of at most `columns` for a terminal.
class PullMeter {
 public:
  void Add(const images::PullProgress& progress);
  std::string Line(size_t columns) const;

 private:
  struct Layer {
    uint64_t done_bytes = 0, total_bytes = 0;
  };
  std::map<std::string, Layer> layers_;
};

}  // namespace keelson
