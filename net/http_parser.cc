// Beast 1.81 asserts n >= 5 when the last chunk's header ("0\r\n", 3 bytes) is seen twice before its trailer
// is there: a peer that sends byte by byte would end a debug build. The code behind the assertion is sound
// without it.
#define BOOST_DISABLE_ASSERTS

#include "net/http_parser.h"

#include <absl/strings/match.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/optional.hpp>
#include <limits>

#include "base/strings.h"

namespace keelson::net {

namespace http = boost::beast::http;
using boost::system::error_code;
using BeastView = boost::beast::string_view;

namespace {

std::string Str(BeastView view) { return std::string(view.data(), view.size()); }

// Bytes of a body reserved up front on the word of Content-Length alone.
constexpr uint64_t kMaxBodyReserveBytes = 256 << 10;

}  // namespace

struct RequestParser::Beast : http::basic_parser<true> {
  explicit Beast(RequestParser* parser) : owner(parser) {}

  void on_request_impl(http::verb, BeastView method, BeastView target, int version, error_code&) override {
    owner->request_.method = Str(method);
    owner->target_ = Str(target);
    owner->http_1_0_ = version < 11;
  }
  void on_response_impl(int, BeastView, int, error_code&) override {}
  void on_field_impl(http::field, BeastView name, BeastView value, error_code& ec) override {
    if (owner->state_ != State::kHeaders) return;  // trailers are dropped
    if (owner->request_.headers.size() >= owner->limits_.max_headers) {
      ec = http::error::header_limit;
      return;
    }
    owner->request_.headers.Add(Str(name), Str(value));
  }
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<uint64_t>& length, error_code&) override {
    if (length)
      owner->request_.body.reserve(static_cast<size_t>(std::min<uint64_t>(*length, kMaxBodyReserveBytes)));
  }
  size_t on_body_impl(BeastView body, error_code&) override {
    owner->request_.body.append(body.data(), body.size());
    return body.size();
  }
  void on_chunk_header_impl(uint64_t, BeastView, error_code&) override {}
  size_t on_chunk_body_impl(uint64_t, BeastView body, error_code&) override {
    owner->request_.body.append(body.data(), body.size());
    return body.size();
  }
  void on_finish_impl(error_code&) override {}

  RequestParser* owner;
};

RequestParser::RequestParser(const ParserLimits& limits)
    : limits_(limits), beast_(std::make_unique<Beast>(this)) {
  beast_->header_limit(static_cast<uint32_t>(limits.max_header_bytes));
  beast_->body_limit(limits.max_body_bytes);
}

RequestParser::~RequestParser() = default;

void RequestParser::Fail(int status, std::string message) {
  state_ = State::kError;
  error_status_ = status;
  error_message_ = std::move(message);
}

void RequestParser::HeadersDone() {
  auto target = HttpTarget::Parse(target_);
  if (target_.size() > kMaxTargetBytes) return Fail(414, "request target too long");
  if (!target.ok()) return Fail(400, std::string(target.status().message()));
  request_.target = *std::move(target);
  const HttpHeaders& headers = request_.headers;
  if (!http_1_0_ && headers.GetAll("Host").size() != 1) return Fail(400, "exactly one Host header is needed");
  if (const std::string* coding = headers.Find("Transfer-Encoding");
      coding != nullptr && !absl::EqualsIgnoreCase(*coding, "chunked")) {
    return Fail(501, "Transfer-Encoding other than chunked is not supported");
  }
  if (const std::string* expect = headers.Find("Expect")) {
    if (!absl::EqualsIgnoreCase(*expect, "100-continue")) return Fail(417, "Expect other than 100-continue");
    expect_continue_ = !http_1_0_;
  }
  keep_alive_ = beast_->keep_alive();
  state_ = beast_->is_done() ? State::kDone : State::kBody;
}

size_t RequestParser::Put(std::string_view data) {
  if (state_ == State::kHeaders) return PutHeaders(data);
  if (state_ == State::kBody) return PutBody(data);
  return 0;
}

size_t RequestParser::PutHeaders(std::string_view data) {
  error_code ec;
  // Tolerate empty lines before the request line (RFC 9112 2.2).
  size_t skipped = 0;
  if (!beast_->got_some()) {
    while (data.substr(skipped).starts_with("\r\n")) skipped += 2;
    data.remove_prefix(skipped);
    if (data.empty() || data == "\r") return skipped;
  }
  size_t used = beast_->put(boost::asio::const_buffer(data.data(), data.size()), ec);
  if (ec == http::error::need_more) ec = {};
  if (ec == http::error::header_limit) {
    Fail(431, "request header fields too large");
  } else if (ec == http::error::body_limit) {
    Fail(413, StrCat("request body over the limit of ", limits_.max_body_bytes, " bytes"));
  } else if (ec == http::error::bad_version) {
    Fail(505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
  } else if (ec) {
    Fail(400, StrCat("malformed request: ", ec.message()));
  } else if (beast_->is_header_done()) {
    HeadersDone();
  }
  return skipped + used;
}

size_t RequestParser::PutBody(std::string_view data) {
  beast_->eager(true);
  size_t total = 0;
  while (state_ == State::kBody && !data.empty()) {
    error_code ec;
    size_t used = beast_->put(boost::asio::const_buffer(data.data(), data.size()), ec);
    total += used;
    data.remove_prefix(used);
    if (ec == http::error::body_limit) {
      Fail(413, StrCat("request body over the limit of ", limits_.max_body_bytes, " bytes"));
    } else if (ec == http::error::need_more) {
      break;
    } else if (ec) {
      Fail(400, StrCat("malformed request body: ", ec.message()));
    } else if (beast_->is_done()) {
      state_ = State::kDone;
    } else if (used == 0) {
      break;
    }
  }
  // Only chunk headers and trailers wait for more than they have: an endless one would fill the memory.
  if (state_ == State::kBody && data.size() > limits_.max_header_bytes)
    Fail(431, "chunk header or trailer too large");
  return total;
}

struct ResponseParser::Beast : http::basic_parser<false> {
  explicit Beast(ResponseParser* parser) : owner(parser) {}

  void on_request_impl(http::verb, BeastView, BeastView, int, error_code&) override {}
  void on_response_impl(int status, BeastView, int, error_code&) override { owner->status_ = status; }
  void on_field_impl(http::field, BeastView name, BeastView value, error_code& ec) override {
    if (owner->state_ != State::kHeaders) return;
    if (owner->headers_.size() >= owner->limits_.max_headers) {
      ec = http::error::header_limit;
      return;
    }
    owner->headers_.Add(Str(name), Str(value));
  }
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<uint64_t>&, error_code&) override {}
  size_t on_body_impl(BeastView body, error_code&) override {
    owner->body_.append(body.data(), body.size());
    return body.size();
  }
  void on_chunk_header_impl(uint64_t, BeastView, error_code&) override {}
  size_t on_chunk_body_impl(uint64_t, BeastView body, error_code&) override {
    owner->body_.append(body.data(), body.size());
    return body.size();
  }
  void on_finish_impl(error_code&) override {}

  ResponseParser* owner;
};

ResponseParser::ResponseParser(const ParserLimits& limits, bool head_request)
    : limits_(limits), beast_(std::make_unique<Beast>(this)) {
  beast_->header_limit(static_cast<uint32_t>(limits.max_header_bytes));
  beast_->body_limit(std::numeric_limits<uint64_t>::max());  // the reader bounds what it keeps
  beast_->skip(head_request);
}

ResponseParser::~ResponseParser() = default;

void ResponseParser::Fail(std::string message) {
  state_ = State::kError;
  error_message_ = std::move(message);
}

size_t ResponseParser::Put(std::string_view data) {
  size_t total = 0;
  while (!data.empty() && (state_ == State::kHeaders || state_ == State::kBody)) {
    if (state_ == State::kBody) beast_->eager(true);
    error_code ec;
    size_t used = beast_->put(boost::asio::const_buffer(data.data(), data.size()), ec);
    total += used;
    data.remove_prefix(used);
    if (ec == http::error::need_more) break;
    if (ec) {
      Fail(StrCat("malformed response: ", ec.message()));
      break;
    }
    if (state_ == State::kHeaders && beast_->is_header_done()) {
      keep_alive_ = beast_->keep_alive() && status_ != 101;
      state_ = beast_->is_done() || status_ == 101 ? State::kDone : State::kBody;
      break;
    }
    if (beast_->is_done()) {
      state_ = State::kDone;
    } else if (used == 0) {
      break;
    }
  }
  if (state_ == State::kBody && data.size() > limits_.max_header_bytes)
    Fail("chunk header or trailer too large");
  return total;
}

void ResponseParser::PutEof() {
  if (state_ == State::kDone || state_ == State::kError) return;
  error_code ec;
  beast_->put_eof(ec);
  if (ec || state_ == State::kHeaders) return Fail("connection closed in the middle of the response");
  state_ = State::kDone;
  keep_alive_ = false;
}

}  // namespace keelson::net
