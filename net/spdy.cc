#include "net/spdy.h"

#include <absl/strings/ascii.h>
#include <zlib.h>

#include <algorithm>

#include "base/log.h"
#include "base/strings.h"

namespace keelson::net {
namespace {

constexpr uint16_t kVersion = 3;  // SPDY/3.1 frames say 3 too
constexpr size_t kFrameHeadBytes = 8;
constexpr uint32_t kControlBit = 0x80000000;
constexpr uint32_t kMaxLength = 0xffffff;
constexpr int kCompressionLevel = 6;
constexpr size_t kDataPieceBytes = 64 << 10;

// Each with its length in front, then the tail as it is.
constexpr const char* kDictionaryWords[] = {"options",
                                            "head",
                                            "post",
                                            "put",
                                            "delete",
                                            "trace",
                                            "accept",
                                            "accept-charset",
                                            "accept-encoding",
                                            "accept-language",
                                            "accept-ranges",
                                            "age",
                                            "allow",
                                            "authorization",
                                            "cache-control",
                                            "connection",
                                            "content-base",
                                            "content-encoding",
                                            "content-language",
                                            "content-length",
                                            "content-location",
                                            "content-md5",
                                            "content-range",
                                            "content-type",
                                            "date",
                                            "etag",
                                            "expect",
                                            "expires",
                                            "from",
                                            "host",
                                            "if-match",
                                            "if-modified-since",
                                            "if-none-match",
                                            "if-range",
                                            "if-unmodified-since",
                                            "last-modified",
                                            "location",
                                            "max-forwards",
                                            "pragma",
                                            "proxy-authenticate",
                                            "proxy-authorization",
                                            "range",
                                            "referer",
                                            "retry-after",
                                            "server",
                                            "te",
                                            "trailer",
                                            "transfer-encoding",
                                            "upgrade",
                                            "user-agent",
                                            "vary",
                                            "via",
                                            "warning",
                                            "www-authenticate",
                                            "method",
                                            "get",
                                            "status",
                                            "200 OK",
                                            "version",
                                            "HTTP/1.1",
                                            "url",
                                            "public",
                                            "set-cookie",
                                            "keep-alive",
                                            "origin"};
constexpr const char* kDictionaryTail =
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,"
    "text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch"
    "charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

void AppendU32(std::string* out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(value >> shift));
}

uint32_t ReadU32(std::string_view bytes, size_t at = 0) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = (value << 8) | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

std::string ControlFrame(SpdyFrameType type, uint8_t flags, std::string_view body) {
  KEELSON_CHECK(body.size() <= kMaxLength, "SPDY control frame of ", body.size(), " bytes");
  std::string out;
  out.reserve(kFrameHeadBytes + body.size());
  AppendU32(&out, kControlBit | (uint32_t{kVersion} << 16) | static_cast<uint32_t>(type));
  AppendU32(&out, (uint32_t{flags} << 24) | static_cast<uint32_t>(body.size()));
  out.append(body);
  return out;
}

const Bytef* ZBytes(std::string_view text) { return reinterpret_cast<const Bytef*>(text.data()); }

bool ValidHeaderName(std::string_view name) {
  if (name.empty()) return false;
  return std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return c > 0x20 && c < 0x7f && !absl::ascii_isupper(c); });
}

}  // namespace

const std::string& SpdyDictionary() {
  static const std::string& dictionary = *[] {
    auto* out = new std::string;
    for (std::string_view word : kDictionaryWords) {
      AppendU32(out, static_cast<uint32_t>(word.size()));
      out->append(word);
    }
    out->append(kDictionaryTail);
    return out;
  }();
  return dictionary;
}

// ---- encoder ----

struct SpdyEncoder::Deflater {
  Deflater() {
    const std::string& dictionary = SpdyDictionary();
    KEELSON_CHECK(deflateInit(&z, kCompressionLevel) == Z_OK, "deflateInit");
    KEELSON_CHECK(deflateSetDictionary(&z, ZBytes(dictionary), static_cast<uInt>(dictionary.size())) == Z_OK,
                  "deflateSetDictionary");
  }
  ~Deflater() { deflateEnd(&z); }
  z_stream z = {};
};

SpdyEncoder::SpdyEncoder() : deflater_(std::make_unique<Deflater>()) {}
SpdyEncoder::~SpdyEncoder() = default;

std::string SpdyEncoder::Compress(const HttpHeaders& headers) {
  // Fields of one name are one entry, their values separated by NUL.
  std::vector<std::pair<std::string, std::string>> fields;
  for (const auto& [name, value] : headers) {
    std::string lower = absl::AsciiStrToLower(name);
    auto same = std::find_if(fields.begin(), fields.end(), [&](const auto& f) { return f.first == lower; });
    if (same == fields.end()) {
      fields.emplace_back(std::move(lower), value);
    } else {
      same->second.push_back('\0');
      same->second += value;
    }
  }
  std::string plain;
  AppendU32(&plain, static_cast<uint32_t>(fields.size()));
  for (const auto& [name, value] : fields) {
    AppendU32(&plain, static_cast<uint32_t>(name.size()));
    plain += name;
    AppendU32(&plain, static_cast<uint32_t>(value.size()));
    plain += value;
  }
  z_stream& z = deflater_->z;
  z.next_in = const_cast<Bytef*>(ZBytes(plain));
  z.avail_in = static_cast<uInt>(plain.size());
  std::string out;
  do {
    size_t at = out.size();
    out.resize(at + 256);
    z.next_out = reinterpret_cast<Bytef*>(out.data() + at);
    z.avail_out = static_cast<uInt>(out.size() - at);
    int result = deflate(&z, Z_SYNC_FLUSH);
    KEELSON_CHECK(result == Z_OK || result == Z_BUF_ERROR, "deflate: ", result);
    out.resize(out.size() - z.avail_out);
  } while (z.avail_out == 0);
  return out;
}

std::string SpdyEncoder::SynStream(uint32_t stream_id, const HttpHeaders& headers, uint8_t flags) {
  std::string body;
  AppendU32(&body, stream_id);
  AppendU32(&body, 0);   // associated to no stream
  body.append(2, '\0');  // priority 0, slot 0
  body += Compress(headers);
  return ControlFrame(SpdyFrameType::kSynStream, flags, body);
}

std::string SpdyEncoder::SynReply(uint32_t stream_id, const HttpHeaders& headers, uint8_t flags) {
  std::string body;
  AppendU32(&body, stream_id);
  body += Compress(headers);
  return ControlFrame(SpdyFrameType::kSynReply, flags, body);
}

std::string SpdyEncoder::Headers(uint32_t stream_id, const HttpHeaders& headers, uint8_t flags) {
  std::string body;
  AppendU32(&body, stream_id);
  body += Compress(headers);
  return ControlFrame(SpdyFrameType::kHeaders, flags, body);
}

std::string SpdyEncoder::Data(uint32_t stream_id, std::string_view data, bool fin) {
  KEELSON_CHECK(data.size() <= kMaxLength, "SPDY data frame of ", data.size(), " bytes");
  std::string out;
  out.reserve(kFrameHeadBytes + data.size());
  AppendU32(&out, stream_id);
  AppendU32(&out, (fin ? uint32_t{kSpdyFin} << 24 : 0) | static_cast<uint32_t>(data.size()));
  out.append(data);
  return out;
}

std::string SpdyEncoder::RstStream(uint32_t stream_id, SpdyRstStatus status) {
  std::string body;
  AppendU32(&body, stream_id);
  AppendU32(&body, static_cast<uint32_t>(status));
  return ControlFrame(SpdyFrameType::kRstStream, 0, body);
}

std::string SpdyEncoder::Settings(const std::vector<SpdySetting>& settings) {
  std::string body;
  AppendU32(&body, static_cast<uint32_t>(settings.size()));
  for (const SpdySetting& setting : settings) {
    AppendU32(&body, setting.id & 0xffffff);
    AppendU32(&body, setting.value);
  }
  return ControlFrame(SpdyFrameType::kSettings, 0, body);
}

std::string SpdyEncoder::Ping(uint32_t id) {
  std::string body;
  AppendU32(&body, id);
  return ControlFrame(SpdyFrameType::kPing, 0, body);
}

std::string SpdyEncoder::GoAway(uint32_t last_good_stream_id, SpdyGoAwayStatus status) {
  std::string body;
  AppendU32(&body, last_good_stream_id);
  AppendU32(&body, static_cast<uint32_t>(status));
  return ControlFrame(SpdyFrameType::kGoAway, 0, body);
}

std::string SpdyEncoder::WindowUpdate(uint32_t stream_id, uint32_t delta) {
  std::string body;
  AppendU32(&body, stream_id);
  AppendU32(&body, delta & 0x7fffffff);
  return ControlFrame(SpdyFrameType::kWindowUpdate, 0, body);
}

// ---- decoder ----

struct SpdyDecoder::Inflater {
  Inflater() { KEELSON_CHECK(inflateInit(&z) == Z_OK, "inflateInit"); }
  ~Inflater() { inflateEnd(&z); }

  // A block that was flushed whole.
  absl::StatusOr<std::string> Inflate(std::string_view block) {
    const std::string& dictionary = SpdyDictionary();
    z.next_in = const_cast<Bytef*>(ZBytes(block));
    z.avail_in = static_cast<uInt>(block.size());
    std::string out;
    for (;;) {
      size_t at = out.size();
      out.resize(at + 1024);
      z.next_out = reinterpret_cast<Bytef*>(out.data() + at);
      z.avail_out = static_cast<uInt>(out.size() - at);
      int result = inflate(&z, Z_SYNC_FLUSH);
      out.resize(out.size() - z.avail_out);
      if (out.size() > kSpdyMaxHeaderBlockBytes) {
        return absl::ResourceExhaustedError(
            StrCat("SPDY: headers of more than ", kSpdyMaxHeaderBlockBytes, " bytes"));
      }
      if (result == Z_NEED_DICT) {
        result = inflateSetDictionary(&z, ZBytes(dictionary), static_cast<uInt>(dictionary.size()));
        if (result != Z_OK) return absl::InvalidArgumentError("SPDY: headers with another dictionary");
        continue;
      }
      if (result == Z_STREAM_END) return absl::InvalidArgumentError("SPDY: header compression was ended");
      if (result != Z_OK && result != Z_BUF_ERROR)
        return absl::InvalidArgumentError("SPDY: headers that do not inflate");
      if (z.avail_out != 0) break;  // all that the input gives
    }
    if (z.avail_in != 0) return absl::InvalidArgumentError("SPDY: headers that do not inflate");
    return out;
  }
  z_stream z = {};
};

SpdyDecoder::SpdyDecoder() : inflater_(std::make_unique<Inflater>()) {}
SpdyDecoder::~SpdyDecoder() = default;

void SpdyDecoder::Append(std::string_view bytes) { input_.append(bytes); }

void SpdyDecoder::Consume(size_t bytes) {
  begin_ += bytes;
  if (begin_ == input_.size()) {
    input_.clear();
    begin_ = 0;
  } else if (begin_ >= kSpdyMaxControlFrameBytes) {
    input_.erase(0, begin_);
    begin_ = 0;
  }
}

absl::StatusOr<std::optional<SpdyFrame>> SpdyDecoder::Next() {
  std::string_view in = view();
  if (data_left_ == 0) {
    if (in.size() < kFrameHeadBytes) return std::optional<SpdyFrame>();
    const uint32_t word = ReadU32(in), second = ReadU32(in, 4);
    const uint8_t flags = static_cast<uint8_t>(second >> 24);
    const size_t length = second & kMaxLength;
    if ((word & kControlBit) != 0) {
      if (((word >> 16) & 0x7fff) != kVersion) {
        return absl::InvalidArgumentError(StrCat("SPDY: version ", (word >> 16) & 0x7fff, " instead of 3"));
      }
      if (length > kSpdyMaxControlFrameBytes) {
        return absl::ResourceExhaustedError(
            StrCat("SPDY: control frame of ", length, " bytes, limit ", kSpdyMaxControlFrameBytes));
      }
      if (in.size() < kFrameHeadBytes + length) return std::optional<SpdyFrame>();
      absl::StatusOr<SpdyFrame> frame =
          Control(static_cast<uint16_t>(word), flags, in.substr(kFrameHeadBytes, length));
      if (!frame.ok()) return frame.status();
      Consume(kFrameHeadBytes + length);
      return std::optional<SpdyFrame>(*std::move(frame));
    }
    if (word == 0) return absl::InvalidArgumentError("SPDY: data for stream 0");
    data_stream_ = word;
    data_flags_ = flags;
    data_left_ = length;
    Consume(kFrameHeadBytes);
    in = view();
    if (length != 0 && in.empty()) return std::optional<SpdyFrame>();
  } else if (in.empty()) {
    return std::optional<SpdyFrame>();
  }
  SpdyFrame frame;
  frame.type = SpdyFrameType::kData;
  frame.stream_id = data_stream_;
  frame.data = std::string(in.substr(0, std::min(data_left_, kDataPieceBytes)));
  data_left_ -= frame.data.size();
  if (data_left_ == 0) frame.flags = data_flags_;
  Consume(frame.data.size());
  return std::optional<SpdyFrame>(std::move(frame));
}

absl::Status SpdyDecoder::ReadHeaders(std::string_view block, HttpHeaders* headers) {
  absl::StatusOr<std::string> plain = inflater_->Inflate(block);
  if (!plain.ok()) return plain.status();
  std::string_view in = *plain;
  const absl::Status cut = absl::InvalidArgumentError("SPDY: headers cut short");
  if (in.size() < 4) return cut;
  uint32_t count = ReadU32(in);
  in.remove_prefix(4);
  if (count > kSpdyMaxHeaders)
    return absl::ResourceExhaustedError(StrCat("SPDY: ", count, " headers, limit ", kSpdyMaxHeaders));
  for (uint32_t i = 0; i < count; ++i) {
    std::string_view text[2];
    for (std::string_view& part : text) {
      if (in.size() < 4) return cut;
      uint32_t length = ReadU32(in);
      in.remove_prefix(4);
      if (in.size() < length) return cut;
      part = in.substr(0, length);
      in.remove_prefix(length);
    }
    if (!ValidHeaderName(text[0])) return absl::InvalidArgumentError("SPDY: bad header name");
    if (headers->Has(text[0])) return absl::InvalidArgumentError("SPDY: header twice");
    std::string_view values = text[1];
    for (;;) {
      size_t nul = values.find('\0');
      if (headers->size() >= kSpdyMaxHeaders)
        return absl::ResourceExhaustedError(StrCat("SPDY: more than ", kSpdyMaxHeaders, " headers"));
      headers->Add(std::string(text[0]), std::string(values.substr(0, nul)));
      if (nul == std::string_view::npos) break;
      values.remove_prefix(nul + 1);
    }
  }
  if (!in.empty()) return absl::InvalidArgumentError("SPDY: bytes after the headers");
  return absl::OkStatus();
}

absl::StatusOr<SpdyFrame> SpdyDecoder::Control(uint16_t type, uint8_t flags, std::string_view body) {
  SpdyFrame frame;
  frame.flags = flags;
  frame.type = static_cast<SpdyFrameType>(type);
  const absl::Status wrong_size =
      absl::InvalidArgumentError(StrCat("SPDY: control frame ", type, " of ", body.size(), " bytes"));
  auto id = [&](size_t at) { return ReadU32(body, at) & kSpdyMaxStreamId; };
  switch (frame.type) {
    case SpdyFrameType::kSynStream: {
      if (body.size() < 10) return wrong_size;
      frame.stream_id = id(0);
      frame.priority = static_cast<uint8_t>(body[8]) >> 5;
      absl::Status status = ReadHeaders(body.substr(10), &frame.headers);
      if (!status.ok()) return status;
      break;
    }
    case SpdyFrameType::kSynReply:
    case SpdyFrameType::kHeaders: {
      if (body.size() < 4) return wrong_size;
      frame.stream_id = id(0);
      absl::Status status = ReadHeaders(body.substr(4), &frame.headers);
      if (!status.ok()) return status;
      break;
    }
    case SpdyFrameType::kRstStream:
      if (body.size() != 8) return wrong_size;
      frame.stream_id = id(0);
      frame.status = ReadU32(body, 4);
      break;
    case SpdyFrameType::kSettings: {
      if (body.size() < 4) return wrong_size;
      uint32_t count = ReadU32(body);
      if (count > kSpdyMaxSettings)
        return absl::ResourceExhaustedError(StrCat("SPDY: ", count, " settings, limit ", kSpdyMaxSettings));
      if (body.size() != 4 + size_t{count} * 8) return wrong_size;
      for (uint32_t i = 0; i < count; ++i) {
        frame.settings.push_back({ReadU32(body, 4 + 8 * i) & 0xffffff, ReadU32(body, 8 + 8 * i)});
      }
      break;
    }
    case SpdyFrameType::kPing:
      if (body.size() != 4) return wrong_size;
      frame.stream_id = ReadU32(body);
      break;
    case SpdyFrameType::kGoAway:
      if (body.size() != 8) return wrong_size;
      frame.stream_id = id(0);
      frame.status = ReadU32(body, 4);
      break;
    case SpdyFrameType::kWindowUpdate:
      if (body.size() != 8) return wrong_size;
      frame.stream_id = id(0);
      frame.delta = ReadU32(body, 4) & 0x7fffffff;
      break;
    default:
      frame.type = SpdyFrameType::kUnknown;
  }
  return frame;
}

}  // namespace keelson::net
