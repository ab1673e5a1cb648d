#include "net/http_message.h"

#include <gtest/gtest.h>

#include "base/strings.h"
#include "net/http_parser.h"

namespace keelson::net {
namespace {

TEST(HttpHeadersTest, NamesHaveNoCase) {
  HttpHeaders headers{{"Accept", "a"}, {"accept", "b"}, {"Connection", "keep-alive, Upgrade"}};
  EXPECT_EQ(headers.Get("ACCEPT"), "a");
  EXPECT_EQ(headers.GetAll("Accept").size(), 2u);
  EXPECT_TRUE(headers.HasToken("connection", "upgrade"));
  EXPECT_FALSE(headers.HasToken("connection", "up"));
  headers.Set("aCCept", "c");
  EXPECT_EQ(headers.GetAll("Accept"), std::vector<std::string_view>{"c"});
  headers.Remove("ACCEPT");
  EXPECT_FALSE(headers.Has("Accept"));
  EXPECT_EQ(headers.Get("Accept"), "");
}

TEST(HttpTargetTest, Parse) {
  HttpTarget target = *HttpTarget::Parse("/api/v1/pods%20x?a=1&b&c=%26+%3D&&a=2");
  EXPECT_EQ(target.path, "/api/v1/pods x");
  EXPECT_EQ(target.raw_path, "/api/v1/pods%20x");
  EXPECT_EQ(target.query.size(), 4u);
  EXPECT_EQ(target.query.Get("c"), "& =");
  EXPECT_TRUE(target.query.Has("b"));
  EXPECT_EQ(target.query.GetAll("a"), (std::vector<std::string_view>{"1", "2"}));
  EXPECT_EQ(target.query.Encode(), "a=1&b=&c=%26%20%3D&a=2");
  EXPECT_EQ(HttpTarget::Parse("http://host:80/x?y")->path, "/x");
  EXPECT_EQ(HttpTarget::Parse("https://host")->path, "/");
  EXPECT_EQ(HttpTarget::Parse("*")->path, "*");
  EXPECT_EQ(HttpTarget::Parse("/../x")->path, "/../x");
  for (std::string bad : {"", "x", "?a", "/a b", "/%", "/%4", "/%zz", "/?a=%g1", "/%00", "/a#b", "/\x01"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(HttpTarget::Parse(bad).status())) << bad;
  }
  std::string many = "/?";
  for (int i = 0; i < 300; ++i) many += "a=1&";
  EXPECT_FALSE(HttpTarget::Parse(many).ok());
}

TEST(HttpUrlTest, Parse) {
  struct {
    const char* in;
    bool tls;
    const char* host;
    int port;
    const char* target;
  } good[] = {{"https://h", true, "h", 443, "/"},
              {"http://h:8080/a?b=c#frag", false, "h", 8080, "/a?b=c"},
              {"https://[::1]:6443/", true, "::1", 6443, "/"},
              {"http://h?x", false, "h", 80, "/?x"}};
  for (const auto& test : good) {
    auto url = HttpUrl::Parse(test.in);
    ASSERT_TRUE(url.ok()) << test.in;
    EXPECT_EQ(url->tls, test.tls);
    EXPECT_EQ(url->host, test.host);
    EXPECT_EQ(url->port, test.port);
    EXPECT_EQ(url->target, test.target);
  }
  for (const char* bad : {"", "h", "ftp://h", "http://", "http://h:0", "http://h:65536", "http://h:x",
                          "http://u@h", "http://[::1", "http://[::1]x", "http://h /"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(HttpUrl::Parse(bad).status())) << bad;
  }
  EXPECT_EQ(JoinHostPort("::1", 80), "[::1]:80");
}

TEST(PercentTest, RoundTrip) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  EXPECT_EQ(*PercentDecode(PercentEncode(all)), all);
  EXPECT_EQ(PercentEncode("/a b/", true), "/a%20b/");
}

TEST(ResponseParserTest, Kinds) {
  struct {
    const char* bytes;
    bool head;
    const char* body;
    bool keep_alive;
    bool eof;
  } cases[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", false, "hi", true, false},
      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", true, "", true, false},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", false, "abc",
       true, false},
      {"HTTP/1.1 200 OK\r\n\r\nuntil the end", false, "until the end", false, true},
      {"HTTP/1.1 204 No Content\r\n\r\n", false, "", true, false},
      {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false, "", false, false},
  };
  for (const auto& test : cases) {
    for (size_t step : {size_t{1}, size_t{7}, size_t{10000}}) {
      ResponseParser parser({}, test.head);
      std::string pending;
      std::string_view rest = test.bytes;
      while (!rest.empty()) {
        pending += rest.substr(0, step);
        rest.remove_prefix(std::min(step, rest.size()));
        for (size_t used = 1; used > 0 && !pending.empty();) {
          used = parser.Put(pending);
          pending.erase(0, used);
        }
      }
      if (test.eof) parser.PutEof();
      EXPECT_EQ(parser.state(), ResponseParser::State::kDone) << test.bytes << step << parser.error_message();
      EXPECT_EQ(parser.body(), test.body);
      EXPECT_EQ(parser.keep_alive(), test.keep_alive) << test.bytes;
    }
  }
  ResponseParser cut({}, false);
  std::string text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi";
  for (size_t used = 1; used > 0 && !text.empty(); text.erase(0, used)) used = cut.Put(text);
  cut.PutEof();
  EXPECT_EQ(cut.state(), ResponseParser::State::kError);
}

}  // namespace
}  // namespace keelson::net
