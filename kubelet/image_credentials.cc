// Registry credentials out of pull secrets. The one unit that reads docker's JSON.
#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/str_split.h>

#include <nlohmann/json.hpp>

#include "kubelet/image_manager.h"

namespace keelson::kubelet {
namespace {

constexpr size_t kMaxDockerConfigBytes = 1 << 20;

// "https://index.docker.io/v1/" and "index.docker.io" are docker.io.
std::string NormalizeHost(std::string host) {
  for (const char* scheme : {"https://", "http://"}) {
    if (host.rfind(scheme, 0) == 0) host = host.substr(std::string(scheme).size());
  }
  host = host.substr(0, host.find('/'));
  if (host == "index.docker.io" || host == "registry-1.docker.io") host = "docker.io";
  return host;
}

// "*.example.com" stands for one label.
bool HostMatches(const std::string& pattern, const std::string& host) {
  std::vector<std::string> a = absl::StrSplit(pattern, '.'), b = absl::StrSplit(host, '.');
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] != "*" && a[i] != b[i]) return false;
  }
  return true;
}

}  // namespace

std::string RegistryOf(const std::string& image) {
  size_t slash = image.find('/');
  if (slash == std::string::npos) return "docker.io";
  std::string first = image.substr(0, slash);
  if (first.find('.') == std::string::npos && first.find(':') == std::string::npos && first != "localhost") {
    return "docker.io";
  }
  return NormalizeHost(first);
}

std::vector<criv1::AuthConfig> CredentialsFromSecret(const corev1::Secret& secret, const std::string& image) {
  std::vector<criv1::AuthConfig> out;
  std::string text;
  bool nested = true;
  if (auto it = secret.data().find(".dockerconfigjson"); it != secret.data().end()) {
    text = it->second;
  } else if (auto old = secret.data().find(".dockercfg"); old != secret.data().end()) {
    text = old->second;
    nested = false;
  }
  if (text.empty() || text.size() > kMaxDockerConfigBytes) return out;
  nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (nested && json.is_object() && json.contains("auths")) json = nlohmann::json(json["auths"]);
  if (!json.is_object()) return out;
  const std::string registry = RegistryOf(image);
  for (const auto& [host, entry] : json.items()) {
    if (!entry.is_object() || !HostMatches(NormalizeHost(host), registry)) continue;
    auto get = [&entry = entry](const char* key) {
      auto it = entry.find(key);
      return it != entry.end() && it->is_string() ? it->get<std::string>() : std::string();
    };
    criv1::AuthConfig auth;
    auth.set_username(get("username"));
    auth.set_password(get("password"));
    auth.set_identity_token(get("identitytoken"));
    std::string plain;
    if (auth.username().empty() && absl::Base64Unescape(get("auth"), &plain)) {
      size_t colon = plain.find(':');
      if (colon != std::string::npos) {
        auth.set_username(plain.substr(0, colon));
        auth.set_password(plain.substr(colon + 1));
      }
    }
    if (!auth.username().empty() || !auth.identity_token().empty()) out.push_back(std::move(auth));
  }
  return out;
}

}  // namespace keelson::kubelet
