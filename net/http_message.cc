#include "net/http_message.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>

#include <algorithm>

#include "base/strings.h"

namespace keelson::net {

namespace {

bool EqualNoCase(std::string_view a, std::string_view b) { return absl::EqualsIgnoreCase(Av(a), Av(b)); }

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool IsUnreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

void HttpHeaders::Set(std::string_view name, std::string value) {
  for (size_t i = 0; i < fields_.size(); ++i) {
    if (!EqualNoCase(fields_[i].name, name)) continue;
    fields_[i].value = std::move(value);
    auto later = std::remove_if(fields_.begin() + static_cast<ptrdiff_t>(i) + 1, fields_.end(),
                                [&](const Field& f) { return EqualNoCase(f.name, name); });
    fields_.erase(later, fields_.end());
    return;
  }
  Add(std::string(name), std::move(value));
}

void HttpHeaders::Remove(std::string_view name) {
  std::erase_if(fields_, [&](const Field& f) { return EqualNoCase(f.name, name); });
}

const std::string* HttpHeaders::Find(std::string_view name) const {
  for (const Field& field : fields_) {
    if (EqualNoCase(field.name, name)) return &field.value;
  }
  return nullptr;
}

std::string_view HttpHeaders::Get(std::string_view name) const {
  const std::string* value = Find(name);
  return value == nullptr ? std::string_view() : std::string_view(*value);
}

std::vector<std::string_view> HttpHeaders::GetAll(std::string_view name) const {
  std::vector<std::string_view> values;
  for (const Field& field : fields_) {
    if (EqualNoCase(field.name, name)) values.push_back(field.value);
  }
  return values;
}

bool HttpHeaders::HasToken(std::string_view name, std::string_view token) const {
  for (const Field& field : fields_) {
    if (!EqualNoCase(field.name, name)) continue;
    std::string_view rest = field.value;
    while (!rest.empty()) {
      size_t comma = rest.find(',');
      if (EqualNoCase(Trim(rest.substr(0, comma)), token)) return true;
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  return false;
}

bool QueryParams::Has(std::string_view name) const {
  return std::any_of(params_.begin(), params_.end(), [&](const auto& p) { return p.first == name; });
}

std::string_view QueryParams::Get(std::string_view name) const {
  for (const auto& [key, value] : params_) {
    if (key == name) return value;
  }
  return {};
}

std::vector<std::string_view> QueryParams::GetAll(std::string_view name) const {
  std::vector<std::string_view> values;
  for (const auto& [key, value] : params_) {
    if (key == name) values.push_back(value);
  }
  return values;
}

std::string QueryParams::Encode() const {
  std::string out;
  for (const auto& [key, value] : params_) {
    if (!out.empty()) out += '&';
    out += PercentEncode(key);
    out += '=';
    out += PercentEncode(value);
  }
  return out;
}

std::string PercentEncode(std::string_view text, bool keep_slash) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (char c : text) {
    if (IsUnreserved(c) || (keep_slash && c == '/')) {
      out += c;
    } else {
      unsigned char u = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[u >> 4];
      out += kHex[u & 15];
    }
  }
  return out;
}

absl::StatusOr<std::string> PercentDecode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '+' && plus_is_space) {
      out += ' ';
    } else if (c != '%') {
      out += c;
    } else {
      int high = i + 1 < text.size() ? HexValue(text[i + 1]) : -1;
      int low = i + 2 < text.size() ? HexValue(text[i + 2]) : -1;
      if (high < 0 || low < 0) return absl::InvalidArgumentError("bad percent-encoding");
      out += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return out;
}

namespace {

absl::Status ParseQuery(std::string_view text, QueryParams* out) {
  size_t count = 0;
  while (!text.empty()) {
    size_t amp = text.find('&');
    std::string_view pair = text.substr(0, amp);
    text = amp == std::string_view::npos ? std::string_view() : text.substr(amp + 1);
    if (pair.empty()) continue;
    if (++count > kMaxQueryParams)
      return absl::InvalidArgumentError("request target: too many query parameters");
    size_t equals = pair.find('=');
    auto name = PercentDecode(pair.substr(0, equals), true);
    auto value =
        PercentDecode(equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1), true);
    if (!name.ok() || !value.ok())
      return absl::InvalidArgumentError("request target: bad percent-encoding in query");
    out->Add(*std::move(name), *std::move(value));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HttpTarget> HttpTarget::Parse(std::string_view target) {
  if (target.size() > kMaxTargetBytes) return absl::InvalidArgumentError("request target: too long");
  for (char c : target) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) {
      return absl::InvalidArgumentError("request target: control byte or space");
    }
  }
  if (target.starts_with("http://") || target.starts_with("https://")) {  // absolute form, RFC 9112 3.2.2
    size_t start = target.find("://") + 3;
    size_t slash = target.find_first_of("/?", start);
    target = slash == std::string_view::npos ? std::string_view("/") : target.substr(slash);
  }
  HttpTarget out;
  size_t hash = target.find('#');
  if (hash != std::string_view::npos) return absl::InvalidArgumentError("request target: has a fragment");
  size_t question = target.find('?');
  std::string_view path = target.substr(0, question);
  if (path == "*" && question == std::string_view::npos) {  // OPTIONS *
    out.raw_path = out.path = "*";
    return out;
  }
  if (path.empty() || path[0] != '/')
    return absl::InvalidArgumentError("request target: path does not start with '/'");
  out.raw_path = std::string(path);
  auto decoded = PercentDecode(path);
  if (!decoded.ok()) return absl::InvalidArgumentError("request target: bad percent-encoding in path");
  if (decoded->find('\0') != std::string::npos)
    return absl::InvalidArgumentError("request target: NUL in path");
  out.path = *std::move(decoded);
  if (question != std::string_view::npos) {
    out.raw_query = std::string(target.substr(question + 1));
    absl::Status status = ParseQuery(out.raw_query, &out.query);
    if (!status.ok()) return status;
  }
  return out;
}

std::string HttpBody::Flatten() const {
  std::string out;
  out.reserve(size_bytes_);
  for (const Piece& piece : pieces_) out.append(piece.bytes);
  return out;
}

std::string_view HttpReasonPhrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 101:
      return "Switching Protocols";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 206:
      return "Partial Content";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 303:
      return "See Other";
    case 304:
      return "Not Modified";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Payload Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 422:
      return "Unprocessable Entity";
    case 426:
      return "Upgrade Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

absl::StatusOr<HttpUrl> HttpUrl::Parse(std::string_view url) {
  HttpUrl out;
  std::string_view rest = url;
  if (rest.starts_with("https://")) {
    out.tls = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    return absl::InvalidArgumentError(StrCat("URL \"", url, "\": scheme must be http or https"));
  }
  for (char c : rest) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) {
      return absl::InvalidArgumentError(StrCat("URL \"", url, "\": space or control byte"));
    }
  }
  size_t end = rest.find_first_of("/?#");
  std::string_view authority = rest.substr(0, end);
  std::string_view target = end == std::string_view::npos ? std::string_view() : rest.substr(end);
  target = target.substr(0, target.find('#'));
  if (authority.find('@') != std::string_view::npos) {
    return absl::InvalidArgumentError(StrCat("URL \"", url, "\": user information is not supported"));
  }
  std::string_view port;
  if (authority.starts_with("[")) {
    size_t close = authority.find(']');
    if (close == std::string_view::npos)
      return absl::InvalidArgumentError(StrCat("URL \"", url, "\": missing ']'"));
    out.host = std::string(authority.substr(1, close - 1));
    port = authority.substr(close + 1);
  } else {
    size_t colon = authority.find(':');
    out.host = std::string(authority.substr(0, colon));
    port = colon == std::string_view::npos ? std::string_view() : authority.substr(colon);
  }
  if (out.host.empty()) return absl::InvalidArgumentError(StrCat("URL \"", url, "\": no host"));
  out.port = out.tls ? 443 : 80;
  if (!port.empty()) {
    unsigned value = 0;
    if (port[0] != ':' || port.size() > 6 || !absl::SimpleAtoi(Av(port.substr(1)), &value) || value == 0 ||
        value > 65535) {
      return absl::InvalidArgumentError(StrCat("URL \"", url, "\": bad port"));
    }
    out.port = static_cast<uint16_t>(value);
  }
  out.target = std::string(target);
  if (out.target.empty() || out.target[0] != '/') out.target.insert(0, "/");
  return out;
}

std::string JoinHostPort(std::string_view host, uint16_t port) {
  bool v6 = host.find(':') != std::string_view::npos;
  return StrCat(v6 ? "[" : "", host, v6 ? "]:" : ":", static_cast<int>(port));
}

}  // namespace keelson::net
