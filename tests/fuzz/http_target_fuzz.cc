// Bytes from the network into request-target, URL and header parsing. First byte: how the rest is fed.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "net/http_message.h"
#include "net/http_parser.h"

namespace {

using keelson::net::HttpTarget;
using keelson::net::HttpUrl;
using keelson::net::ParserLimits;
using keelson::net::RequestParser;
using keelson::net::ResponseParser;

void Require(bool holds) {
  if (!holds) std::abort();
}

// Feeds `text` in steps, as a connection does: what was not consumed is given again, with more behind it.
template <class Parser>
void Feed(Parser* parser, std::string_view text, size_t step) {
  std::string pending;
  while (!text.empty()) {
    size_t take = std::min(step, text.size());
    pending.append(text.substr(0, take));
    text.remove_prefix(take);
    while (!pending.empty()) {
      size_t used = parser->Put(pending);
      Require(used <= pending.size());
      pending.erase(0, used);
      if (used == 0) break;
    }
  }
}

void Target(std::string_view text) {
  auto target = HttpTarget::Parse(text);
  if (!target.ok()) return;
  Require(!target->path.empty());
  Require(target->path.find('\0') == std::string::npos);
  // What we encode ourselves is read back the same.
  auto again = HttpTarget::Parse("/?" + target->query.Encode());
  if (!again.ok()) return;  // the encoded form may pass the length limit
  Require(again->query.size() == target->query.size());
  for (const auto& [name, value] : target->query) Require(again->query.Has(name));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  size_t step = static_cast<size_t>(data[0] % 32) + 1;
  Target(text);
  (void)HttpUrl::Parse(text).ok();
  ParserLimits limits;
  limits.max_header_bytes = 4096;
  limits.max_headers = 16;
  limits.max_body_bytes = 1024;
  RequestParser whole(limits), pieces(limits);
  Feed(&whole, text, text.size() + 1);
  Feed(&pieces, text, step);
  // A request is the same however the network cuts it.
  bool whole_done = whole.state() == RequestParser::State::kDone;
  bool pieces_done = pieces.state() == RequestParser::State::kDone;
  Require(whole_done == pieces_done);
  if (whole_done) {
    Require(whole.request().body == pieces.request().body);
    Require(whole.request().target.path == pieces.request().target.path);
    Require(whole.request().headers.size() == pieces.request().headers.size());
    Require(whole.request().body.size() <= limits.max_body_bytes);
  }
  ResponseParser response(limits, false);
  Feed(&response, text, step);
  response.PutEof();
  return 0;
}
