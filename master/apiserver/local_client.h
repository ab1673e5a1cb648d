// LocalClient: client::ApiClient in process over the Pipeline: the same authorization, admission, validation
// and storage as over HTTP, without encoding. For controllers, scheduler and simulation. One loop, the
// Pipeline's.
#pragma once

#include <memory>

#include "client/api_client.h"
#include "master/apiserver/pipeline.h"

namespace keelson::master {

// Acts as `user`. The pipeline outlives the client and its calls and watchers.
std::unique_ptr<client::ApiClient> NewLocalClient(Pipeline& pipeline, UserInfo user);

}  // namespace keelson::master
