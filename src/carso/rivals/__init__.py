"""Rivals: other defences, a file each that reads like its paper, under the same contract and with their trainings."""

from carso.rivals.augmentation import Augmented
from carso.rivals.defense_gan import WGAN, DefenseGAN, EncoderStage, Generator, WGANStage
from carso.rivals.denoising import Autoencoder, Denoised, DenoisingStage
from carso.rivals.diffusion import DDPM, DiffusionPurified, DiffusionStage
from carso.rivals.files import load
from carso.rivals.parseval import ParsevalStage
from carso.rivals.puvae import ConditionalVAE, PuVAE, PuVAEStage
from carso.rivals.smoothing import Certificate, NoisyStage, Smoothed
from carso.rivals.unet import UNet
from carso.rivals.winners import WinnersTakeAll

__all__ = [
    "DDPM",
    "WGAN",
    "Augmented",
    "Autoencoder",
    "Certificate",
    "ConditionalVAE",
    "DefenseGAN",
    "Denoised",
    "DenoisingStage",
    "DiffusionPurified",
    "DiffusionStage",
    "EncoderStage",
    "Generator",
    "NoisyStage",
    "ParsevalStage",
    "PuVAE",
    "PuVAEStage",
    "Smoothed",
    "UNet",
    "WGANStage",
    "WinnersTakeAll",
    "load",
]
