#include "images/registry_config.h"

#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <cstdlib>

#include "base/fd.h"
#include "base/status.h"
#include "base/strings.h"
#include "net/address.h"

namespace keelson::images {
namespace {

bool IsLoopbackHost(const std::string& host) {
  if (host == "localhost") return true;
  auto address = net::IpAddress::Parse(host);
  return address.ok() && address->is_loopback();
}

// Splits "host:port" or "[::1]:port"; port 0 when absent.
bool SplitAuthority(std::string_view text, std::string* host, uint16_t* port) {
  *port = 0;
  std::string_view port_text;
  if (!text.empty() && text.front() == '[') {
    size_t end = text.find(']');
    if (end == std::string_view::npos) return false;
    *host = std::string(text.substr(1, end - 1));
    text.remove_prefix(end + 1);
    if (text.empty()) return true;
    if (text.front() != ':') return false;
    port_text = text.substr(1);
  } else {
    size_t colon = text.find(':');
    *host = std::string(text.substr(0, colon));
    if (colon == std::string_view::npos) return !host->empty();
    port_text = text.substr(colon + 1);
  }
  int value = 0;
  if (!absl::SimpleAtoi(Av(port_text), &value) || value < 1 || value > 65535) return false;
  *port = static_cast<uint16_t>(value);
  return !host->empty();
}

RegistryHost UpstreamOf(std::string_view domain) {
  RegistryHost out;
  out.upstream = true;
  std::string_view authority = domain == "docker.io" ? "registry-1.docker.io" : domain;
  uint16_t port = 0;
  SplitAuthority(authority, &out.host, &port);
  out.tls = !IsLoopbackHost(out.host) || port == 443;
  out.port = port != 0 ? port : out.tls ? 443 : 80;
  out.url = StrCat(out.tls ? "https://" : "http://", authority);
  return out;
}

absl::StatusOr<RegistryHost> HostFromUrl(const std::string& written) {
  std::string url = written;
  if (!absl::StrContains(url, "://")) url = StrCat("https://", url);
  ASSIGN_OR_RETURN(net::HttpUrl parsed, net::HttpUrl::Parse(url));
  RegistryHost out;
  out.url = url;
  out.tls = parsed.tls;
  out.host = parsed.host;
  out.port = parsed.port;
  std::string path = parsed.target.substr(0, parsed.target.find('?'));
  while (!path.empty() && path.back() == '/') path.pop_back();
  out.api_path = path;
  return out;
}

// ---- the subset of TOML that hosts.toml uses ----
// Tables, strings, booleans and (nested) arrays of them; dates, numbers and inline tables are refused.

struct TomlValue {
  enum class Kind { kString, kBool, kArray } kind = Kind::kString;
  std::string text;
  bool flag = false;
  std::vector<TomlValue> items;
};

struct TomlEntry {
  int line = 0;
  std::vector<std::string> table;
  std::string key;
  TomlValue value;
};

class TomlReader {
 public:
  explicit TomlReader(std::string_view text) : text_(text) {}

  absl::StatusOr<std::vector<TomlEntry>> Read(std::vector<std::pair<int, std::vector<std::string>>>* tables) {
    std::vector<TomlEntry> out;
    std::vector<std::string> table;
    while (true) {
      SkipBlank(/*lines=*/true);
      if (at_ == text_.size()) return out;
      if (out.size() > kMaxEntries) return Error("too many entries");
      if (Take('[')) {
        if (Peek() == '[') return Error("lists of tables are not supported");
        RETURN_IF_ERROR(Keys(&table));
        SkipBlank(false);
        if (!Take(']')) return Error("] expected");
        tables->emplace_back(line_, table);
      } else {
        TomlEntry entry;
        entry.line = line_;
        std::vector<std::string> key;
        RETURN_IF_ERROR(Keys(&key));
        SkipBlank(false);
        if (!Take('=')) return Error("= expected");
        SkipBlank(false);
        RETURN_IF_ERROR(Value(&entry.value, 0));
        entry.key = std::move(key.back());
        key.pop_back();
        entry.table = table;
        entry.table.insert(entry.table.end(), key.begin(), key.end());
        out.push_back(std::move(entry));
      }
      SkipBlank(false);
      if (at_ != text_.size() && Peek() != '\n') return Error("end of line expected");
    }
  }

 private:
  static constexpr size_t kMaxEntries = 1024;
  static constexpr int kMaxDepth = 4;
  static constexpr size_t kMaxKeyParts = 8;

  absl::Status Error(std::string_view what) const {
    return absl::InvalidArgumentError(StrCat("line ", line_, ": ", what));
  }
  char Peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool Take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void SkipBlank(bool lines) {
    while (at_ < text_.size()) {
      char c = text_[at_];
      if (c == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else if (c == ' ' || c == '\t' || c == '\r' || (lines && c == '\n')) {
        if (c == '\n') ++line_;
        ++at_;
      } else {
        return;
      }
    }
  }
  absl::Status Keys(std::vector<std::string>* out) {
    out->clear();
    do {
      SkipBlank(false);
      std::string part;
      if (Peek() == '"' || Peek() == '\'') {
        RETURN_IF_ERROR(String(&part));
      } else {
        while (absl::ascii_isalnum(static_cast<unsigned char>(Peek())) || Peek() == '_' || Peek() == '-') {
          part.push_back(text_[at_++]);
        }
        if (part.empty()) return Error("a key is expected");
      }
      out->push_back(std::move(part));
      if (out->size() > kMaxKeyParts) return Error("key of too many parts");
      SkipBlank(false);
    } while (Take('.'));
    return absl::OkStatus();
  }
  absl::Status String(std::string* out) {
    char quote = text_[at_++];
    while (true) {
      if (at_ == text_.size() || text_[at_] == '\n') return Error("string without an end");
      char c = text_[at_++];
      if (c == quote) break;
      if (c == '\\' && quote == '"') {
        char e = Peek();
        ++at_;
        switch (e) {
          case '"':
          case '\\':
            c = e;
            break;
          case 'n':
            c = '\n';
            break;
          case 't':
            c = '\t';
            break;
          default:
            return Error("escape that is not supported");
        }
      }
      out->push_back(c);
    }
    if (out->empty() && Peek() == quote) return Error("strings of several lines are not supported");
    return absl::OkStatus();
  }
  absl::Status Value(TomlValue* out, int depth) {
    if (depth > kMaxDepth) return Error("nested too deep");
    if (Peek() == '"' || Peek() == '\'') return String(&out->text);
    if (Take('[')) {
      out->kind = TomlValue::Kind::kArray;
      while (true) {
        SkipBlank(true);
        if (Take(']')) return absl::OkStatus();
        if (out->items.size() >= kMaxEntries) return Error("too many items");
        RETURN_IF_ERROR(Value(&out->items.emplace_back(), depth + 1));
        SkipBlank(true);
        if (!Take(',') && Peek() != ']') return Error(", or ] expected");
      }
    }
    for (std::string_view word : {"true", "false"}) {
      if (text_.substr(at_, word.size()) == word) {
        out->kind = TomlValue::Kind::kBool;
        out->flag = word == "true";
        at_ += word.size();
        return absl::OkStatus();
      }
    }
    return Error("a string, true, false or a list is expected");
  }

  std::string_view text_;
  size_t at_ = 0;
  int line_ = 1;
};

absl::Status At(const TomlEntry& entry, std::string_view why) {
  return absl::InvalidArgumentError(StrCat("line ", entry.line, ": ", entry.key, ": ", why));
}

absl::StatusOr<bool> BoolOf(const TomlEntry& entry) {
  if (entry.value.kind != TomlValue::Kind::kBool) return At(entry, "must be true or false");
  return entry.value.flag;
}

// A string or a list of strings.
absl::StatusOr<std::vector<std::string>> StringsOf(const TomlEntry& entry, const TomlValue& value) {
  std::vector<std::string> out;
  if (value.kind == TomlValue::Kind::kString) {
    out.push_back(value.text);
    return out;
  }
  if (value.kind != TomlValue::Kind::kArray) return At(entry, "must be a string or a list of strings");
  for (const TomlValue& item : value.items) {
    if (item.kind != TomlValue::Kind::kString) return At(entry, "must be a list of strings");
    out.push_back(item.text);
  }
  return out;
}

std::string InDir(const std::string& dir, const std::string& file) {
  return file.empty() || file.front() == '/' ? file : StrCat(dir, "/", file);
}

struct HostDraft {
  RegistryHost host;
  bool override_path = false;
};

absl::Status ApplyHostKey(const TomlEntry& entry, const std::string& dir, HostDraft* draft) {
  RegistryHost& host = draft->host;
  if (entry.key == "capabilities") {
    ASSIGN_OR_RETURN(std::vector<std::string> words, StringsOf(entry, entry.value));
    host.pull = host.resolve = false;
    for (const std::string& word : words) {
      if (word == "pull") {
        host.pull = true;
      } else if (word == "resolve") {
        host.resolve = true;
      } else if (word != "push") {
        return At(entry, StrCat("\"", word, "\" is not pull, resolve or push"));
      }
    }
    return absl::OkStatus();
  }
  if (entry.key == "skip_verify") {
    ASSIGN_OR_RETURN(host.skip_verify, BoolOf(entry));
    return absl::OkStatus();
  }
  if (entry.key == "override_path") {
    ASSIGN_OR_RETURN(draft->override_path, BoolOf(entry));
    return absl::OkStatus();
  }
  if (entry.key == "ca") {
    ASSIGN_OR_RETURN(std::vector<std::string> files, StringsOf(entry, entry.value));
    for (std::string& file : files) host.ca_files.push_back(InDir(dir, file));
    return absl::OkStatus();
  }
  if (entry.key == "client") {
    // "both.pem", ["cert.pem", "key.pem"] as one pair is written [["cert.pem", "key.pem"]].
    const TomlValue* value = &entry.value;
    if (value->kind == TomlValue::Kind::kArray && value->items.size() == 1) value = &value->items[0];
    ASSIGN_OR_RETURN(std::vector<std::string> files, StringsOf(entry, *value));
    if (files.empty() || files.size() > 2) return At(entry, "one certificate, or a pair of it and its key");
    host.client_cert_file = InDir(dir, files[0]);
    host.client_key_file = InDir(dir, files.back());
    return absl::OkStatus();
  }
  return At(entry, "not supported");
}

void FinishPath(HostDraft* draft) {
  std::string& path = draft->host.api_path;
  if (!draft->override_path && !absl::EndsWith(path, "/v2")) path += "/v2";
}

bool SameServer(const RegistryHost& a, const RegistryHost& b) {
  return a.tls == b.tls && a.host == b.host && a.port == b.port && a.api_path == b.api_path;
}

}  // namespace

absl::StatusOr<RegistryHosts> ParseHostsToml(std::string_view text, std::string_view domain,
                                             const std::string& dir) {
  if (text.size() > kMaxHostsFileBytes) return absl::ResourceExhaustedError("hosts.toml: file too large");
  std::vector<std::pair<int, std::vector<std::string>>> tables;
  TomlReader reader(text);
  ASSIGN_OR_RETURN(std::vector<TomlEntry> entries, reader.Read(&tables));
  std::vector<std::pair<std::string, HostDraft>> mirrors;
  auto find = [&](const std::string& name) -> HostDraft* {
    for (auto& [key, draft] : mirrors) {
      if (key == name) return &draft;
    }
    return nullptr;
  };
  auto add = [&](int line, const std::vector<std::string>& table) -> absl::Status {
    if (table.size() < 2 || table[0] != "host" || table.size() > 3 ||
        (table.size() == 3 && table[2] != "header")) {
      return absl::InvalidArgumentError(StrCat("line ", line, ": [", table.empty() ? "" : table[0],
                                               "]: only [host.\"URL\"] and [host.\"URL\".header] are known"));
    }
    if (find(table[1]) != nullptr) return absl::OkStatus();
    if (mirrors.size() >= kMaxRegistryHosts) return absl::ResourceExhaustedError("too many hosts");
    auto host = HostFromUrl(table[1]);
    if (!host.ok()) return Annotate(host.status(), StrCat("line ", line));
    mirrors.emplace_back(table[1], HostDraft{*std::move(host), false});
    return absl::OkStatus();
  };
  for (const auto& [line, table] : tables) RETURN_IF_ERROR(add(line, table));
  HostDraft server{UpstreamOf(domain), false};
  server.host.api_path = "";
  for (const TomlEntry& entry : entries) {
    if (entry.table.empty() && entry.key == "server") {
      ASSIGN_OR_RETURN(std::vector<std::string> urls, StringsOf(entry, entry.value));
      if (urls.size() != 1) return At(entry, "must be one URL");
      if (urls[0].empty()) continue;
      auto host = HostFromUrl(urls[0]);
      if (!host.ok()) return Annotate(host.status(), StrCat("line ", entry.line, ": server"));
      server.host.url = host->url;
      server.host.tls = host->tls;
      server.host.host = host->host;
      server.host.port = host->port;
      server.host.api_path = host->api_path;
    } else if (entry.table.empty()) {
      RETURN_IF_ERROR(ApplyHostKey(entry, dir, &server));
    } else {
      RETURN_IF_ERROR(add(entry.line, entry.table));
      HostDraft* draft = find(entry.table[1]);
      if (entry.table.size() == 2) {
        RETURN_IF_ERROR(ApplyHostKey(entry, dir, draft));
        continue;
      }
      ASSIGN_OR_RETURN(std::vector<std::string> values, StringsOf(entry, entry.value));
      for (std::string& value : values) draft->host.headers.emplace_back(entry.key, std::move(value));
    }
  }
  FinishPath(&server);
  RegistryHosts out;
  for (auto& [name, draft] : mirrors) {
    FinishPath(&draft);
    // The registry itself named a second time, with its settings.
    draft.host.upstream = SameServer(draft.host, server.host);
    out.hosts.push_back(std::move(draft.host));
  }
  bool listed =
      std::any_of(out.hosts.begin(), out.hosts.end(), [](const RegistryHost& host) { return host.upstream; });
  if (!listed) out.hosts.push_back(std::move(server.host));
  return out;
}

RegistryHosts DefaultRegistryHosts(std::string_view domain) {
  RegistryHosts out;
  out.hosts.push_back(UpstreamOf(domain));
  return out;
}

absl::StatusOr<RegistryHosts> LoadRegistryHosts(const std::string& registries_dir, std::string_view domain) {
  if (registries_dir.empty()) return DefaultRegistryHosts(domain);
  for (std::string_view name : {domain, std::string_view("_default")}) {
    std::string dir = StrCat(registries_dir, "/", name);
    auto text = ReadFile(dir + "/hosts.toml", kMaxHostsFileBytes);
    if (absl::IsNotFound(text.status())) continue;
    if (!text.ok()) return text.status();
    auto hosts = ParseHostsToml(*text, domain, dir);
    if (!hosts.ok()) return Annotate(hosts.status(), StrCat(dir, "/hosts.toml"));
    return hosts;
  }
  return DefaultRegistryHosts(domain);
}

// ---- credentials ----

std::optional<RegistryCredentials> AuthFile::Find(std::string_view name) const {
  std::string_view prefix = name;
  while (true) {
    auto it = entries_.find(std::string(prefix));
    if (it != entries_.end()) return it->second;
    size_t slash = prefix.rfind('/');
    if (slash == std::string_view::npos) return std::nullopt;
    prefix = prefix.substr(0, slash);
  }
}

absl::StatusOr<AuthFile> AuthFile::Load(const std::string& path) {
  if (path.empty()) return AuthFile();
  auto text = ReadFile(path, kMaxAuthFileBytes);
  if (absl::IsNotFound(text.status())) return AuthFile();
  if (!text.ok()) return text.status();
  auto out = Parse(*text);
  if (!out.ok()) return Annotate(out.status(), path);
  return out;
}

// ---- proxies ----

ProxySettings ProxySettings::FromEnvironment() {
  auto get = [](const char* upper, const char* lower) -> std::string {
    for (const char* name : {lower, upper}) {
      const char* value = std::getenv(name);
      if (value != nullptr && *value != '\0') return value;
    }
    return "";
  };
  return {get("HTTP_PROXY", "http_proxy"), get("HTTPS_PROXY", "https_proxy"), get("NO_PROXY", "no_proxy")};
}

namespace {

bool NoProxyMatches(std::string_view entry, const std::string& host, uint16_t port) {
  if (entry == "*") return true;
  auto address = net::IpAddress::Parse(host);
  if (address.ok()) {
    auto block = net::Cidr::Parse(entry);
    if (block.ok() && block->Contains(*address)) return true;
    auto other = net::IpAddress::Parse(entry);
    if (other.ok()) return *other == *address;
  }
  std::string name;
  uint16_t entry_port = 0;
  if (!SplitAuthority(entry, &name, &entry_port)) return false;
  if (entry_port != 0 && entry_port != port) return false;
  if (address.ok()) {
    auto other = net::IpAddress::Parse(name);
    return other.ok() && *other == *address;
  }
  if (absl::StartsWith(name, "*.")) name.erase(0, 1);
  bool only_below = !name.empty() && name.front() == '.';
  std::string lower = absl::AsciiStrToLower(host), wanted = absl::AsciiStrToLower(name);
  if (only_below) return absl::EndsWith(lower, wanted);
  return lower == wanted || absl::EndsWith(lower, StrCat(".", wanted));
}

}  // namespace

absl::StatusOr<ProxyChoice> ChooseProxy(const ProxySettings& settings, bool tls, const std::string& host,
                                        uint16_t port) {
  std::string url = tls ? settings.https_proxy : settings.http_proxy;
  if (url.empty() || IsLoopbackHost(host)) return ProxyChoice();
  for (absl::string_view entry : absl::StrSplit(settings.no_proxy, ',')) {
    entry = absl::StripAsciiWhitespace(entry);
    if (!entry.empty() && NoProxyMatches(Sv(entry), host, port)) return ProxyChoice();
  }
  if (!absl::StrContains(url, "://")) url = StrCat("http://", url);
  ProxyChoice out;
  size_t begin = url.find("://") + 3;
  size_t end = std::min(url.find('/', begin), url.size());
  size_t at = url.rfind('@', end);
  if (at != std::string::npos && at > begin) {
    auto user = net::PercentDecode(url.substr(begin, at - begin));
    if (!user.ok()) return absl::InvalidArgumentError("proxy URL: user name not percent-encoded");
    out.authorization = StrCat("Basic ", Base64(*user));
    url.erase(begin, at + 1 - begin);
  }
  auto parsed = net::HttpUrl::Parse(url);
  if (!parsed.ok()) return Annotate(parsed.status(), "proxy URL");
  if (parsed->tls) {
    return absl::InvalidArgumentError(StrCat("proxy ", parsed->host, ": only http:// proxies are supported"));
  }
  out.host = parsed->host;
  out.port = parsed->port;
  return out;
}

std::string Base64(std::string_view bytes) { return absl::Base64Escape(Av(bytes)); }

}  // namespace keelson::images
