#include "kubelet/server/cri_log.h"

#include <gtest/gtest.h>

namespace keelson::kubelet {
namespace {

constexpr char kLog[] =
    "2016-10-06T00:17:09.669794202Z stdout F one\n"
    "2016-10-06T00:17:10.669794202Z stdout P two and \n"
    "2016-10-06T00:17:10.669794203Z stdout F a half\n"
    "2016-10-06T00:17:11.669794202Z stderr F three\n";

TEST(ParseCriLogLine, ItsFourParts) {
  auto line = ParseCriLogLine("2016-10-06T00:17:09.669794202+01:00 stderr P:x  a message ");
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->timestamp, "2016-10-06T00:17:09.669794202+01:00");
  EXPECT_EQ(absl::ToUnixSeconds(line->time), 1475709429);
  EXPECT_TRUE(line->is_stderr);
  EXPECT_TRUE(line->partial);
  EXPECT_EQ(line->message, " a message ");
  line = ParseCriLogLine("2016-10-06T00:17:09Z stdout F");
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(line->message, "");
  for (const char* bad : {"", "x", "now stdout F m", "2016-10-06T00:17:09Z", "2016-10-06T00:17:09Z out F m",
                          "2016-10-06T00:17:09Z stdout X m", "{\"log\":\"docker\"}"}) {
    EXPECT_FALSE(ParseCriLogLine(bad).ok()) << bad;
  }
}

std::string Filter(LogRequest request, size_t piece = 1000) {
  LogFilter filter(std::move(request));
  std::string out, log = kLog;
  for (size_t i = 0; i < log.size() && !filter.done(); i += piece)
    out += filter.Feed(std::string_view(log).substr(i, piece));
  return out + filter.Finish();
}

TEST(LogFilter, AnyPiecesGiveTheSame) {
  for (size_t piece : {1, 2, 7, 64, 1000})
    EXPECT_EQ(Filter({}, piece), "one\ntwo and a half\nthree\n") << piece;
}

TEST(LogFilter, Options) {
  LogRequest request;
  request.timestamps = true;
  EXPECT_EQ(Filter(request),
            "2016-10-06T00:17:09.669794202Z one\n2016-10-06T00:17:10.669794202Z two and a half\n"
            "2016-10-06T00:17:11.669794202Z three\n");
  request = {};
  request.since = absl::FromUnixSeconds(1475713031);
  EXPECT_EQ(Filter(request), "three\n");
  request = {};
  request.want_stdout = false;
  EXPECT_EQ(Filter(request), "three\n");
  for (size_t piece : {1, 5, 1000}) {
    request = {};
    request.limit_bytes = 6;
    EXPECT_EQ(Filter(request, piece), "one\ntw");
  }
}

TEST(LogFilter, WhatIsNotOfTheFormatIsShown) {
  LogFilter filter({});
  EXPECT_EQ(filter.Feed("plain\n2016-10-06T00:17:09Z stdout F fine\n2016-10-06T00:17:09Z stdout F cut"),
            "plain\nfine\n");
  EXPECT_EQ(filter.Finish(), "cut\n");
  EXPECT_EQ(filter.Finish(), "");
}

TEST(LogFilter, LinesAreBounded) {
  LogFilter filter({});
  std::string out = filter.Feed(std::string(kMaxLogLineBytes + 1, 'x'));
  EXPECT_EQ(out.size(), kMaxLogLineBytes + 2);
}

}  // namespace
}  // namespace keelson::kubelet
