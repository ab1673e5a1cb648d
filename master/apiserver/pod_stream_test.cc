// exec, attach and portforward: what is refused, and whole connections between a client and a kubelet played
// here.
#include "master/apiserver/pod_stream.h"

#include <gmock/gmock.h>

#include "base/strings.h"
#include "master/apiserver/kubelet_endpoint.h"
#include "master/apiserver/testing/fixture.h"
#include "net/remote_command.h"
#include "net/spdy_connection.h"
#include "net/stream_util.h"
#include "net/websocket_connection.h"

namespace keelson::master {
namespace {

using ::testing::HasSubstr;

std::string Query(const std::string& subresource, const std::string& query) {
  TranslatedStreams streams;
  auto out = KubeletStreamQuery(subresource, net::HttpTarget::Parse("/?" + query)->query, &streams);
  return out.ok() ? out->Encode() : StrCat("!", Sv(out.status().message()));
}

TEST(KubeletStreamQuery, Names) {
  EXPECT_EQ(Query("exec", "command=ls&command=-l&stdout=true&stderr=true"),
            "command=ls&command=-l&output=1&error=1");
  EXPECT_EQ(Query("exec", "command=sh&stdin=true&stdout=true&stderr=true&tty=true&container=c"),
            "command=sh&input=1&output=1&tty=1");
  EXPECT_EQ(Query("attach", "stdout=1"), "output=1");
  EXPECT_EQ(Query("portforward", "ports=80&ports=8080"), "port=80&port=8080");
  EXPECT_EQ(Query("portforward", ""), "");
  EXPECT_THAT(Query("exec", "stdout=true"), HasSubstr("!you must specify at least one command"));
  EXPECT_THAT(Query("attach", "stdout=false"), HasSubstr("!you must specify at least one of stdin"));
}

TEST(ChooseContainer, Rules) {
  core::Pod pod;
  pod.mutable_metadata()->set_name("p");
  pod.mutable_spec()->add_init_containers()->set_name("init");
  pod.mutable_spec()->add_containers()->set_name("a");
  EXPECT_EQ(*ChooseContainer(pod, ""), "a");
  EXPECT_EQ(*ChooseContainer(pod, "init"), "init");
  pod.mutable_spec()->add_containers()->set_name("b");
  EXPECT_THAT(std::string(ChooseContainer(pod, "").status().message()),
              HasSubstr("choose one of: [a b] or one of the init containers: [init]"));
  EXPECT_THAT(std::string(ChooseContainer(pod, "c").status().message()),
              HasSubstr("container c is not valid"));
  (*pod.mutable_metadata()->mutable_annotations())["kubectl.kubernetes.io/default-container"] = "b";
  EXPECT_EQ(*ChooseContainer(pod, ""), "b");
  pod.mutable_spec()->add_ephemeral_containers()->mutable_ephemeral_container_common()->set_name("debug");
  EXPECT_EQ(*ChooseContainer(pod, "debug"), "debug");
}

class PodStream : public ApiServerTest {
 protected:
  // "STATUS BODY" of the answer.
  std::string Send(const std::string& method, const std::string& target, net::HttpHeaders headers,
                   const std::string& user = "admin", const std::string& group = "system:masters") {
    net::HttpRequest request;
    request.method = method;
    request.target = *net::HttpTarget::Parse("/api/v1/namespaces/default/pods/" + target);
    request.headers = std::move(headers);
    auto certificate = std::make_shared<net::PeerCertificate>();
    certificate->verified = true;
    certificate->common_name = user;
    certificate->organizations = {group};
    request.peer_certificate = certificate;
    net::RecordingResponseWriter writer;
    env_.AwaitVoid(server_->handler().Handle(std::move(request), writer));
    return StrCat(writer.status, " ", writer.body);
  }
  static net::HttpHeaders Spdy() { return net::UpgradeForward({}, net::UpgradeKind::kSpdy); }
};

TEST_F(PodStream, WhatIsRefused) {
  ASSERT_TRUE(Create(PodNamed("a")).ok());
  core::Pod two = PodNamed("two");
  *two.mutable_spec()->add_containers() = two.spec().containers(0);
  two.mutable_spec()->mutable_containers(1)->set_name("second");
  ASSERT_TRUE(Create(two).ok());
  EXPECT_THAT(Send("POST", "none/exec?command=ls&stdout=1", Spdy()), HasSubstr("404"));
  EXPECT_THAT(Send("POST", "a/exec?stdout=1", Spdy()), HasSubstr("at least one command"));
  EXPECT_THAT(Send("POST", "a/exec?command=ls", Spdy()), HasSubstr("at least one of stdin"));
  EXPECT_THAT(Send("POST", "a/exec?command=ls&stdout=1&container=x", Spdy()),
              HasSubstr("container x is not valid for pod a"));
  std::string ambiguous = Send("POST", "two/exec?command=ls&stdout=1", Spdy());
  EXPECT_THAT(ambiguous, HasSubstr("400"));
  EXPECT_THAT(ambiguous, HasSubstr("choose one of: [main second]"));
  EXPECT_THAT(Send("POST", "a/exec?command=ls&stdout=1", Spdy()),
              HasSubstr("pod a does not have a host assigned"));
  EXPECT_THAT(Send("POST", "a/portforward", Spdy()), HasSubstr("pod a does not have a host assigned"));
  // Without an upgrade nothing is run.
  for (const char* target : {"a/exec?command=ls&stdout=1", "a/attach?stdout=1", "a/portforward"}) {
    EXPECT_THAT(Send("GET", target, {}), HasSubstr("400")) << target;
    EXPECT_THAT(Send("GET", target, {}), HasSubstr("missing upgrade headers")) << target;
    EXPECT_THAT(Send("POST", target, {}), HasSubstr("missing upgrade headers")) << target;
    EXPECT_THAT(Send("PUT", target, Spdy()), HasSubstr("405")) << target;
  }
  net::HttpHeaders page = Spdy();
  page.Add("Host", "10.96.0.1");
  page.Add("Origin", "https://evil.example");
  EXPECT_THAT(Send("POST", "a/attach?stdout=1", page), HasSubstr("403"));
}

TEST_F(PodStream, AuthorizedPerSubresource) {
  ASSERT_TRUE(Create(PodNamed("a")).ok());
  // A node may read pods, not run commands in them.
  for (const char* method : {"GET", "POST"}) {
    std::string answer = Send(method, "a/exec?command=ls&stdout=1", Spdy(), "system:node:n", "system:nodes");
    EXPECT_THAT(answer, HasSubstr("403"));
    // By GET too it is the right to create that is missing: reading alone runs nothing.
    EXPECT_THAT(answer, HasSubstr("cannot create resource \\\"pods/exec\\\""));
  }
}

// ---- translation ----

class Translator : public ::testing::Test {
 protected:
  void Start(TranslatedStreams streams) {
    auto [client, websocket] = net::MemoryStreamPair();
    auto [spdy, kubelet] = net::MemoryStreamPair();
    net::WebSocketOptions options;
    options.mask_random = &env_.random();
    client_ = net::WebSocketConnection::Start(&scope_, std::move(client), options);
    kubelet_ = net::SpdyConnection::Start(&scope_, std::move(kubelet), net::SpdyConnection::Role::kServer);
    scope_.Spawn("translate", Run(std::move(websocket), std::move(spdy), streams));
    const size_t count = 1u + (streams.has_stdin ? 1 : 0) + (streams.has_stdout ? 1 : 0) +
                         (streams.has_stderr ? 1 : 0) + (streams.tty ? 1 : 0);
    for (size_t i = 0; i < count; ++i) {
      auto stream = env_.Await(kubelet_->Accept());
      ASSERT_TRUE(stream.ok()) << stream.status();
      std::string type((*stream)->headers().Get("streamtype"));
      streams_[type] = *std::move(stream);
    }
  }
  Task<void> Run(std::unique_ptr<net::ByteStream> websocket, std::unique_ptr<net::ByteStream> spdy,
                 TranslatedStreams streams) {
    Task<void> translate = TranslateChannels(&scope_, &env_.clock(), std::move(websocket), std::move(spdy),
                                             streams, absl::Hours(4));
    co_await std::move(translate);
    ended_ = true;
  }
  ~Translator() override {
    streams_.clear();
    env_.AwaitVoid(scope_.Close());
  }
  std::string Message() {
    auto message = env_.Await(client_->Read());
    if (!message.ok()) return StrCat("!", Sv(message.status().message()));
    return message->has_value() ? (*message)->data : "closed";
  }
  void Say(std::string message) {
    ASSERT_TRUE(env_.Await(client_->Write(net::WebSocketOpcode::kBinary, message)).ok());
  }
  std::string Hear(const std::string& type) {
    char buffer[100];
    auto n = env_.Await(streams_[type]->Read(buffer, sizeof buffer));
    return n.ok() ? std::string(buffer, *n) : "!";
  }
  void Answer(const std::string& type, std::string data) {
    ASSERT_TRUE(env_.Await(streams_[type]->Write(data)).ok());
  }
  void End(const std::string& type) { ASSERT_TRUE(env_.Await(streams_[type]->CloseWrite()).ok()); }

  FakeEnv env_;
  Scope scope_{env_.executor()};
  std::shared_ptr<net::WebSocketConnection> client_;
  std::shared_ptr<net::SpdyConnection> kubelet_;
  std::map<std::string, std::unique_ptr<net::SpdyStream>> streams_;
  bool ended_ = false;
};

TEST_F(Translator, AWholeExec) {
  Start({.has_stdin = true, .has_stdout = true, .has_stderr = true});
  EXPECT_EQ(Message(), "\1");
  Say(std::string("\0in", 3));
  EXPECT_EQ(Hear("stdin"), "in");
  Say(std::string("\xff\0", 2));
  EXPECT_EQ(Hear("stdin"), "");
  Answer("stdout", "out");
  EXPECT_EQ(Message(), "\1out");
  Answer("stderr", "err");
  EXPECT_EQ(Message(), "\2err");
  End("stdout");
  End("stderr");
  Answer("error", "{\"status\":\"Success\"}");
  EXPECT_EQ(Message(), "\3{\"status\":\"Success\"}");
  End("error");
  EXPECT_EQ(Message(), "closed");
  client_->Close();
  env_.Settle();
  EXPECT_TRUE(ended_);
  EXPECT_TRUE(kubelet_->closed().is_set());
}

TEST_F(Translator, TerminalSizes) {
  Start({.has_stdin = true, .has_stdout = true, .tty = true});
  Say("\4{\"Width\":80,\"Height\":24}");
  EXPECT_EQ(Hear("resize"), "{\"Width\":80,\"Height\":24}");
}

TEST_F(Translator, AClientThatGoesIsPassedOn) {
  Start({.has_stdout = true});
  client_->Close();
  env_.Settle();
  EXPECT_TRUE(kubelet_->closed().is_set());
  EXPECT_TRUE(ended_);
}

// containerd resets its streams when it is done.
TEST_F(Translator, ResetsAreAnEnd) {
  Start({.has_stdout = true});
  EXPECT_EQ(Message(), "\1");
  Answer("stdout", "out");
  Answer("error", "{\"status\":\"Failure\"}");
  streams_.clear();
  kubelet_->Finish();
  std::string first = Message(), second = Message();
  EXPECT_EQ(std::min(first, second), "\1out");
  EXPECT_EQ(std::max(first, second), "\3{\"status\":\"Failure\"}");
  EXPECT_EQ(Message(), "closed");
}

TEST_F(Translator, ALostNodeIsNoSuccess) {
  Start({.has_stdout = true});
  EXPECT_EQ(Message(), "\1");
  streams_.clear();
  kubelet_->Close();
  EXPECT_EQ(Message(), "closed");
  client_->Close();
  env_.Settle();
  EXPECT_TRUE(ended_);
}

}  // namespace
}  // namespace keelson::master
