// Precompiled header of kubelet/: base/pch.h and the messages that nearly every unit here includes.
#pragma once
#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "base/pch.h"
#include "cri/proto/runtime/v1/api.pb.h"
