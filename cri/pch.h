// Precompiled header of cri/: base/pch.h and the messages that nearly every unit here includes.
#pragma once
#include "base/pch.h"
#include "cri/proto/runtime/v1/api.pb.h"
