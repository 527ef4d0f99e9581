"""Networks of the kinds that operators supply, tiny and with random weights, saved as published ones are. Needs torch,
diffusers and transformers, which the default installation has not."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = ["<|startoftext|>", "<|endoftext|>", *(letter for n in range(26) for letter in (chr(97 + n), chr(97 + n) + "</w>"))]


def _clip_text(folder: Path):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    config = CLIPTextConfig(vocab_size=len(WORDS), hidden_size=32, intermediate_size=37, num_attention_heads=4,
                            num_hidden_layers=2, projection_dim=32, bos_token_id=0, eos_token_id=1, pad_token_id=1)
    return tokenizer, CLIPTextModel(config)


def _autoencoder(blocks: int = 2):
    from diffusers import AutoencoderKL

    return AutoencoderKL(block_out_channels=[32, 32, 64][:blocks], in_channels=3, out_channels=3, latent_channels=4,
                         down_block_types=["DownEncoderBlock2D"] * blocks, up_block_types=["UpDecoderBlock2D"] * blocks,
                         norm_num_groups=32)


def stable_diffusion(folder: Path) -> Path:
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    tokenizer, text = _clip_text(folder / "scratch")
    unet = UNet2DConditionModel(block_out_channels=(32, 64), layers_per_block=1, sample_size=32, in_channels=4, out_channels=4,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=32)
    StableDiffusionPipeline(
        vae=_autoencoder(), text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=DDIMScheduler(clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False).save_pretrained(folder)
    return folder


def upscaler(folder: Path) -> Path:
    import torch
    from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionUpscalePipeline, UNet2DConditionModel

    torch.manual_seed(0)
    tokenizer, text = _clip_text(folder / "scratch")
    unet = UNet2DConditionModel(block_out_channels=(32, 32, 64), layers_per_block=2, sample_size=32, in_channels=7,
                                out_channels=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                                cross_attention_dim=32, attention_head_dim=8, use_linear_projection=True,
                                only_cross_attention=(True, True, False), num_class_embeds=100)
    StableDiffusionUpscalePipeline(
        vae=_autoencoder(3), text_encoder=text, tokenizer=tokenizer, unet=unet, low_res_scheduler=DDPMScheduler(),
        scheduler=DDIMScheduler(prediction_type="v_prediction"), max_noise_level=90).save_pretrained(folder)
    return folder


def video_diffusion(folder: Path) -> Path:
    import torch
    from diffusers import (AutoencoderKLTemporalDecoder, EulerDiscreteScheduler, StableVideoDiffusionPipeline,
                           UNetSpatioTemporalConditionModel)
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64), layers_per_block=2, sample_size=32, in_channels=8, out_channels=4,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), cross_attention_dim=32,
        num_attention_heads=8, projection_class_embeddings_input_dim=96, addition_time_embed_dim=32, num_frames=3)
    vae = AutoencoderKLTemporalDecoder(block_out_channels=[32, 64], in_channels=3, out_channels=3, latent_channels=4,
                                       down_block_types=["DownEncoderBlock2D"] * 2)
    eye = CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_size=32, projection_dim=32, num_hidden_layers=2,
                                                         num_attention_heads=4, image_size=224, intermediate_size=37, patch_size=32))
    StableVideoDiffusionPipeline(
        vae=vae, image_encoder=eye, unet=unet,
        scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                         prediction_type="v_prediction", interpolation_type="linear", use_karras_sigmas=True,
                                         timestep_type="continuous", timestep_spacing="leading", steps_offset=1),
        feature_extractor=CLIPImageProcessor(crop_size=224, size=224)).save_pretrained(folder)
    return folder


def sam2(folder: Path) -> Path:
    import torch
    from transformers import (Sam2Config, Sam2HieraDetConfig, Sam2ImageProcessor, Sam2MaskDecoderConfig, Sam2Model,
                              Sam2Processor, Sam2PromptEncoderConfig, Sam2VisionConfig)

    torch.manual_seed(0)
    backbone = Sam2HieraDetConfig(hidden_size=12, blocks_per_stage=[1, 2, 2, 2], embed_dim_per_stage=[12, 24, 48, 96],
                                  num_attention_heads_per_stage=[1, 2, 4, 8], global_attention_blocks=[4],
                                  window_positional_embedding_background_size=[14, 14], image_size=[1024, 1024])
    vision = Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=[96, 48, 24, 12], fpn_hidden_size=32)
    config = Sam2Config(vision_config=vision, prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=32),
                        mask_decoder_config=Sam2MaskDecoderConfig(hidden_size=32, mlp_dim=64, iou_head_hidden_dim=32))
    Sam2Model(config).save_pretrained(folder)
    Sam2Processor(image_processor=Sam2ImageProcessor()).save_pretrained(folder)
    return folder


def blip(folder: Path) -> Path:
    import torch
    from transformers import (BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor,
                              BlipTextConfig, BlipVisionConfig)

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", *(chr(97 + n) for n in range(26))]
    (folder / "vocab.txt").write_text("\n".join(words))
    text = BlipTextConfig(vocab_size=len(words), hidden_size=32, encoder_hidden_size=32, intermediate_size=37,
                          num_hidden_layers=1, num_attention_heads=4, bos_token_id=5, sep_token_id=3, pad_token_id=0)
    vision = BlipVisionConfig(hidden_size=32, intermediate_size=37, num_hidden_layers=1, num_attention_heads=4, image_size=32,
                              patch_size=8)
    config = BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=32,
                        image_text_hidden_size=32)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}),
                  BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)
    return folder
