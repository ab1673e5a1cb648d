// Precompiled header of master/: base/pch.h and the messages that most units here include.
#pragma once
#include "api/core/v1/node.pb.h"
#include "api/core/v1/pod.pb.h"
#include "base/pch.h"
