#include "api/json_text.h"

#include <array>
#include <charconv>
#include <cmath>

#include "api/codec.h"
#include "base/strings.h"

namespace keelson::api {
namespace {

constexpr char kHex[] = "0123456789abcdef";

// Recursive descent over the text; `depth` bounds the recursion.
class Checker {
 public:
  Checker(std::string_view text, int max_depth) : text_(text), max_depth_(max_depth) {}

  bool Run() {
    SkipSpace();
    if (!Value(0)) return false;
    SkipSpace();
    return pos_ == text_.size() || Fail("extra text after the value");
  }
  size_t offset() const { return pos_; }
  const std::string& message() const { return message_; }

 private:
  bool Fail(const char* message) {
    if (message_.empty()) message_ = message;
    return false;
  }
  char Cur() const { return pos_ < text_.size() ? text_[pos_] : '\0'; }
  void SkipSpace() {
    while (pos_ < text_.size() &&
           (text_[pos_] == ' ' || text_[pos_] == '\n' || text_[pos_] == '\t' || text_[pos_] == '\r')) {
      ++pos_;
    }
  }
  bool Word(std::string_view word) {
    if (text_.substr(pos_, word.size()) != word) return Fail("invalid literal");
    pos_ += word.size();
    return true;
  }
  bool Digits() {
    const size_t start = pos_;
    while (Cur() >= '0' && Cur() <= '9') ++pos_;
    return pos_ > start || Fail("digit expected");
  }
  bool Number() {
    if (Cur() == '-') ++pos_;
    if (Cur() == '0') {
      ++pos_;
    } else if (!Digits()) {
      return false;
    }
    if (Cur() == '.') {
      ++pos_;
      if (!Digits()) return false;
    }
    if (Cur() == 'e' || Cur() == 'E') {
      ++pos_;
      if (Cur() == '+' || Cur() == '-') ++pos_;
      if (!Digits()) return false;
    }
    return true;
  }
  bool String() {
    if (Cur() != '"') return Fail("string expected");
    ++pos_;
    while (pos_ < text_.size()) {
      const unsigned char c = static_cast<unsigned char>(text_[pos_]);
      if (c == '"') {
        ++pos_;
        return true;
      }
      if (c < 0x20) return Fail("control character in a string");
      ++pos_;
      if (c != '\\') continue;
      const char e = Cur();
      if (e == 'u') {
        ++pos_;
        for (int i = 0; i < 4; ++i, ++pos_) {
          const char h = Cur();
          if (!((h >= '0' && h <= '9') || (h >= 'a' && h <= 'f') || (h >= 'A' && h <= 'F'))) {
            return Fail("four hexadecimal digits expected");
          }
        }
      } else if (e != '\0' && std::string_view("\"\\/bfnrt").find(e) != std::string_view::npos) {
        ++pos_;
      } else {
        return Fail("invalid escape");
      }
    }
    return Fail("unterminated string");
  }
  bool Members(int depth) {
    ++pos_;
    SkipSpace();
    if (Cur() == '}') {
      ++pos_;
      return true;
    }
    while (true) {
      SkipSpace();
      if (!String()) return false;
      SkipSpace();
      if (Cur() != ':') return Fail("':' expected");
      ++pos_;
      if (!Value(depth + 1)) return false;
      SkipSpace();
      if (Cur() == '}') {
        ++pos_;
        return true;
      }
      if (Cur() != ',') return Fail("',' or '}' expected");
      ++pos_;
    }
  }
  bool Elements(int depth) {
    ++pos_;
    SkipSpace();
    if (Cur() == ']') {
      ++pos_;
      return true;
    }
    while (true) {
      if (!Value(depth + 1)) return false;
      SkipSpace();
      if (Cur() == ']') {
        ++pos_;
        return true;
      }
      if (Cur() != ',') return Fail("',' or ']' expected");
      ++pos_;
    }
  }
  bool Value(int depth) {
    SkipSpace();
    if (depth > max_depth_) return Fail("nested too deeply");
    switch (Cur()) {
      case '{':
        return Members(depth);
      case '[':
        return Elements(depth);
      case '"':
        return String();
      case 't':
        return Word("true");
      case 'f':
        return Word("false");
      case 'n':
        return Word("null");
      default:
        if (pos_ == text_.size()) return Fail("unexpected end");
        if (Cur() == '-' || (Cur() >= '0' && Cur() <= '9')) return Number();
        return Fail("value expected");
    }
  }

  std::string_view text_;
  int max_depth_;
  size_t pos_ = 0;
  std::string message_;
};

// Length of the UTF-8 sequence at `pos`, 0 when it is invalid.
size_t Utf8Length(std::string_view s, size_t pos) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char c = byte(pos);
  size_t n = 0;
  unsigned low = 0x80, high = 0xBF;
  if (c >= 0xC2 && c <= 0xDF) n = 2;
  if (c >= 0xE0 && c <= 0xEF) n = 3;
  if (c >= 0xF0 && c <= 0xF4) n = 4;
  if (c == 0xE0) low = 0xA0;
  if (c == 0xED) high = 0x9F;
  if (c == 0xF0) low = 0x90;
  if (c == 0xF4) high = 0x8F;
  if (n == 0 || pos + n > s.size()) return 0;
  if (byte(pos + 1) < low || byte(pos + 1) > high) return 0;
  for (size_t i = 2; i < n; ++i) {
    if ((byte(pos + i) & 0xC0) != 0x80) return 0;
  }
  return n;
}

// Bytes that go out as they are.
constexpr std::array<bool, 256> MakePlain() {
  std::array<bool, 256> plain{};
  for (int i = 0x20; i < 0x80; ++i) plain[static_cast<size_t>(i)] = true;
  for (char c : {'"', '\\', '<', '>', '&'}) plain[static_cast<unsigned char>(c)] = false;
  return plain;
}
constexpr std::array<bool, 256> kPlain = MakePlain();

}  // namespace

bool CheckJson(std::string_view text, int max_depth, JsonTextError* error) {
  Checker checker(text, max_depth);
  if (checker.Run()) return true;
  if (error != nullptr) {
    error->offset = checker.offset();
    error->message = checker.message();
    error->line = 1;
    error->column = 1;
    for (size_t i = 0; i < checker.offset() && i < text.size(); ++i) {
      if (text[i] == '\n') {
        ++error->line;
        error->column = 1;
      } else {
        ++error->column;
      }
    }
  }
  return false;
}

void AppendJsonString(std::string_view text, std::string& out) {
  out += '"';
  size_t start = 0;
  for (size_t i = 0; i < text.size();) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (kPlain[c]) {
      ++i;
      continue;
    }
    if (c >= 0x80) {
      const size_t n = Utf8Length(text, i);
      // Line and paragraph separators are escaped so that the text can stand in JavaScript.
      const bool separator = n == 3 && c == 0xE2 && static_cast<unsigned char>(text[i + 1]) == 0x80 &&
                             (static_cast<unsigned char>(text[i + 2]) & 0xFE) == 0xA8;
      if (n != 0 && !separator) {
        i += n;
        continue;
      }
      out.append(text, start, i - start);
      if (n == 0) {
        out += "\\ufffd";
        ++i;
      } else {
        out += static_cast<unsigned char>(text[i + 2]) == 0xA8 ? "\\u2028" : "\\u2029";
        i += 3;
      }
      start = i;
      continue;
    }
    out.append(text, start, i - start);
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        out += "\\u00";
        out += kHex[c >> 4];
        out += kHex[c & 15];
    }
    start = ++i;
  }
  out.append(text, start, text.size() - start);
  out += '"';
}

void AppendJsonDouble(double value, std::string& out) {
  if (!std::isfinite(value)) {
    out += '0';
    return;
  }
  std::array<char, 64> buffer;
  const double magnitude = std::fabs(value);
  const bool exponent = magnitude != 0 && (magnitude < 1e-6 || magnitude >= 1e21);
  auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                              exponent ? std::chars_format::scientific : std::chars_format::fixed);
  std::string_view text(buffer.data(), static_cast<size_t>(result.ptr - buffer.data()));
  // Go writes e-7, not e-07.
  const size_t e = text.find("e-0");
  if (e != std::string_view::npos) {
    out.append(text.substr(0, e + 2));
    out.append(text.substr(e + 3));
    return;
  }
  out.append(text);
}

std::string PrettyJson(std::string_view json) {
  std::string out;
  int depth = 0;
  bool in_string = false;
  auto line = [&] {
    out += '\n';
    out.append(static_cast<size_t>(depth) * 2, ' ');
  };
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      out += c;
      if (c == '\\' && i + 1 < json.size()) {
        out += json[++i];
      } else if (c == '"') {
        in_string = false;
      }
      continue;
    }
    switch (c) {
      case ' ':
      case '\n':
      case '\r':
      case '\t':
        break;
      case '"':
        in_string = true;
        out += c;
        break;
      case '{':
      case '[': {
        out += c;
        const size_t next = json.find_first_not_of(" \n\r\t", i + 1);
        if (next != std::string_view::npos && (json[next] == '}' || json[next] == ']')) {
          out += json[next];
          i = next;
          break;
        }
        ++depth;
        line();
        break;
      }
      case '}':
      case ']':
        if (depth > 0) --depth;
        line();
        out += c;
        break;
      case ',':
        out += c;
        line();
        break;
      case ':':
        out += ": ";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace keelson::api
