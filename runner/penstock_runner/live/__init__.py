"""live-video-to-video: frames in over trickle, each one painted, frames out over trickle.

`service` is what callers of the runner see; `session` is one session's life. A stranger's video is decoded by a
confined child (`decode_child`, held by `decoder`); `encoder` makes MPEG-TS of what was painted; `trickle` is the
channels' client, `numbers` what is measured, `events` what a gateway hears of it.
"""
