// Incremental HTTP/1.1 parsers over boost.beast's basic_parser: bytes in, our message types out. Internal to
// net/; the only unit that sees Beast is http_parser.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "net/http_message.h"

namespace keelson::net {

struct ParserLimits {
  size_t max_header_bytes = 64 << 10;
  size_t max_headers = 128;
  size_t max_body_bytes = 3 << 20;
};

// One request. Feed it, drop it, make the next.
class RequestParser {
 public:
  enum class State { kHeaders, kBody, kDone, kError };
  explicit RequestParser(const ParserLimits& limits);
  ~RequestParser();

  // Takes bytes from the front of `data` and returns how many; the rest belongs to the next call. Returns
  // after the headers even when body bytes follow. Headers are only taken whole: give all of the unconsumed
  // bytes again.
  size_t Put(std::string_view data);
  State state() const { return state_; }

  // kError: what to answer.
  int error_status() const { return error_status_; }
  const std::string& error_message() const { return error_message_; }

  // From kBody on.
  bool keep_alive() const { return keep_alive_; }
  bool expect_continue() const { return expect_continue_; }
  bool http_1_0() const { return http_1_0_; }
  HttpRequest& request() { return request_; }

 private:
  struct Beast;
  size_t PutHeaders(std::string_view data);
  size_t PutBody(std::string_view data);
  void HeadersDone();
  void Fail(int status, std::string message);

  ParserLimits limits_;
  std::unique_ptr<Beast> beast_;
  State state_ = State::kHeaders;
  int error_status_ = 0;
  std::string error_message_;
  std::string target_;
  bool keep_alive_ = false, expect_continue_ = false, http_1_0_ = false;
  HttpRequest request_;
};

// One response. `head_request`: there is no body whatever the headers say.
class ResponseParser {
 public:
  enum class State { kHeaders, kBody, kDone, kError };
  ResponseParser(const ParserLimits& limits, bool head_request);
  ~ResponseParser();
  // As above; body bytes are appended to body().
  size_t Put(std::string_view data);
  // The peer closed: ends a body without length; else kError.
  void PutEof();
  State state() const { return state_; }
  const std::string& error_message() const { return error_message_; }
  int status() const { return status_; }
  HttpHeaders& headers() { return headers_; }
  bool keep_alive() const { return keep_alive_; }
  // Body bytes not yet taken away.
  std::string& body() { return body_; }

 private:
  struct Beast;
  void Fail(std::string message);

  ParserLimits limits_;
  std::unique_ptr<Beast> beast_;
  State state_ = State::kHeaders;
  std::string error_message_;
  int status_ = 0;
  bool keep_alive_ = false;
  HttpHeaders headers_;
  std::string body_;
};

}  // namespace keelson::net
